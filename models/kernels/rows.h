// What the CPU kernels share. Each thread takes some rows of the batch through all of time by itself: threads never wait for each other.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

using at::Tensor;

template <class F> const F* readable(const Tensor& tensor) { return tensor.const_data_ptr<F>(); }
template <class F> F* writable(Tensor& tensor) { return tensor.mutable_data_ptr<F>(); }

// A tensor to be filled: zero where rows end early, as what lies past their lengths is not touched.
inline Tensor fresh(at::IntArrayRef shape, const Tensor& like, bool ragged) {
  return ragged ? at::zeros(shape, like.options()) : at::empty(shape, like.options());
}

// Steps of each row: as many as the batch has rows, within 0..time; `falling` for what takes the running rows to come first.
inline Tensor checked_lengths(const Tensor& lengths, int64_t time, int64_t batch, bool falling) {
  TORCH_CHECK(lengths.dim() == 1 && lengths.numel() == batch && lengths.scalar_type() == at::kLong && lengths.is_cpu(),
              "expected lengths int64 [batch] on the CPU, got ", lengths.sizes(), " of ", lengths.scalar_type());
  const auto dense = lengths.contiguous();
  const int64_t* until = readable<int64_t>(dense);
  for (int64_t b = 0; b < batch; ++b) {
    TORCH_CHECK(until[b] >= 0 && until[b] <= time, "expected lengths from 0 to ", time, ", got ", until[b]);
    TORCH_CHECK(!falling || b == 0 || until[b] <= until[b - 1], "expected falling lengths, got ", until[b - 1], " and then ", until[b]);
  }
  return dense;
}

template <class Body> void over_rows(int64_t batch, Body body) {
  const int64_t threads = at::get_num_threads();
  at::parallel_for(0, batch, std::max<int64_t>(1, (batch + threads - 1) / threads), [&](int64_t lo, int64_t hi) {
    at::NoGradGuard no_grad;
    at::AutoDispatchBelowADInplaceOrView below_autograd;
    body(lo, hi);
  });
}
