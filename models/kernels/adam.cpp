// The Adam filter, forward and backward: v' = mu v + epsilon u, s' = beta s + (1 - beta) u^2, d = v' / sqrt(s' + tiny)
//
// Layouts: u and d [time, batch, channels], v and s [batch, channels], lengths int64 [batch]. What lies past a row's length is zero.

#include "rows.h"

#include <ATen/ops/item.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros_like.h>

namespace {

struct Rates {
  double mu, epsilon, beta, tiny;
};

// v and s are kept every so many steps; backward computes those between again, in the cache, instead of reading them from memory.
constexpr int64_t stride = 32;

template <class F> void adam_step(const F* u, const F* v_prev, const F* s_prev, F* v, F* s, int64_t n, Rates rates) {
  const F mu = rates.mu, epsilon = rates.epsilon, beta = rates.beta, rest = 1 - rates.beta;
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    v[j] = mu * v_prev[j] + epsilon * u[j];
    s[j] = beta * s_prev[j] + rest * u[j] * u[j];
  }
}

template <class F> void normalise(const F* v, const F* s, F* d, int64_t n, Rates rates) {
  const F tiny = rates.tiny;
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) d[j] = v[j] / std::sqrt(s[j] + tiny);
}

// gv, gs: gradients of v and s, updated to those of v_prev and s_prev. Adds the gradients of mu and epsilon to `totals`.
template <class F>
void adam_step_backward(const F* u, const F* v_prev, const F* v, const F* s, const F* dd, F* gv, F* gs, F* du, int64_t n, Rates rates,
                        double* totals) {
  const F mu = rates.mu, epsilon = rates.epsilon, beta = rates.beta, rest = 1 - rates.beta, tiny = rates.tiny;
  F of_mu = 0, of_epsilon = 0;
#pragma omp simd reduction(+ : of_mu, of_epsilon)
  for (int64_t j = 0; j < n; ++j) {
    const F r = 1 / std::sqrt(s[j] + tiny);
    const F k = gv[j] + dd[j] * r;
    const F q = gs[j] - F(0.5) * dd[j] * v[j] * r * r * r;
    of_mu += k * v_prev[j];
    of_epsilon += k * u[j];
    du[j] = epsilon * k + 2 * rest * u[j] * q;
    gv[j] = mu * k;
    gs[j] = beta * q;
  }
  totals[0] += of_mu;
  totals[1] += of_epsilon;
}

// Returns d, the last v and s, and v and s before each step that is a multiple of `stride`.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> adam(const Tensor& u_, const Tensor& v0, const Tensor& s0, const Tensor& lengths,
                                                        const Tensor& mu, const Tensor& epsilon, double beta, double tiny) {
  TORCH_CHECK(u_.dim() == 3 && v0.sizes() == u_.sizes().slice(1) && s0.sizes() == v0.sizes(),
              "expected u [time, batch, channels], v0 and s0 [batch, channels]");
  const auto dense = checked_lengths(lengths, u_.size(0), u_.size(1), false);
  const auto u = u_.contiguous();
  const int64_t time = u.size(0), batch = u.size(1), n = u.size(2);
  auto d = at::zeros_like(u), v_n = v0.clone(at::MemoryFormat::Contiguous), s_n = s0.clone(at::MemoryFormat::Contiguous);
  const std::vector<int64_t> shape = {(time + stride - 1) / stride, batch, n};
  auto kept_v = at::zeros(shape, u.options()), kept_s = at::zeros(shape, u.options());
  const int64_t* until = readable<int64_t>(dense);
  const Rates rates{mu.item<double>(), epsilon.item<double>(), beta, tiny};
  AT_DISPATCH_FLOATING_TYPES(u.scalar_type(), "adam", [&] {
    const scalar_t* up = readable<scalar_t>(u);
    scalar_t *dp = writable<scalar_t>(d), *vp = writable<scalar_t>(v_n), *sp = writable<scalar_t>(s_n);
    scalar_t *kvp = writable<scalar_t>(kept_v), *ksp = writable<scalar_t>(kept_s);
    over_rows(batch, [&](int64_t lo, int64_t hi) {
      for (int64_t b = lo; b < hi; ++b) {
        scalar_t *v = vp + b * n, *s = sp + b * n;
        for (int64_t t = 0; t < until[b]; ++t) {
          const int64_t at = (t * batch + b) * n, block = (t / stride * batch + b) * n;
          if (t % stride == 0) std::copy_n(v, n, kvp + block), std::copy_n(s, n, ksp + block);
          adam_step(up + at, v, s, v, s, n, rates);
          normalise(v, s, dp + at, n, rates);
        }
      }
    });
  });
  return {d, v_n, s_n, kept_v, kept_s};
}

// Returns the gradients of u, v0, s0, and of mu and epsilon as one float64 [2].
std::tuple<Tensor, Tensor, Tensor, Tensor> adam_backward(const Tensor& dd_, const Tensor& dv_n, const Tensor& ds_n, const Tensor& u_,
                                                         const Tensor& kept_v, const Tensor& kept_s, const Tensor& lengths,
                                                         const Tensor& mu, const Tensor& epsilon, double beta, double tiny) {
  TORCH_CHECK(u_.dim() == 3 && dd_.sizes() == u_.sizes() && dv_n.sizes() == u_.sizes().slice(1) && ds_n.sizes() == dv_n.sizes() &&
                  kept_v.is_contiguous() && kept_s.is_contiguous() && kept_s.sizes() == kept_v.sizes() &&
                  kept_v.numel() == (u_.size(0) + stride - 1) / stride * dv_n.numel(),
              "expected what the forward operator was given, and returned");
  const auto dense = checked_lengths(lengths, u_.size(0), u_.size(1), false);
  const auto u = u_.contiguous(), dd = dd_.contiguous();
  const int64_t batch = u.size(1), n = u.size(2);
  auto du = at::zeros_like(u), gv = dv_n.clone(at::MemoryFormat::Contiguous), gs = ds_n.clone(at::MemoryFormat::Contiguous);
  auto totals = at::zeros({batch, 2}, u.options().dtype(at::kDouble));
  const int64_t* until = readable<int64_t>(dense);
  double* total = writable<double>(totals);
  const Rates rates{mu.item<double>(), epsilon.item<double>(), beta, tiny};
  AT_DISPATCH_FLOATING_TYPES(u.scalar_type(), "adam_backward", [&] {
    const scalar_t *up = readable<scalar_t>(u), *ddp = readable<scalar_t>(dd);
    const scalar_t *kvp = readable<scalar_t>(kept_v), *ksp = readable<scalar_t>(kept_s);
    scalar_t *dup = writable<scalar_t>(du), *gvp = writable<scalar_t>(gv), *gsp = writable<scalar_t>(gs);
    over_rows(batch, [&](int64_t lo, int64_t hi) {
      std::vector<scalar_t> v((stride + 1) * n), s((stride + 1) * n);
      for (int64_t b = lo; b < hi; ++b) {
        for (int64_t begin = until[b] == 0 ? -1 : (until[b] - 1) / stride * stride; begin >= 0; begin -= stride) {
          const int64_t steps = std::min(stride, until[b] - begin), kept = (begin / stride * batch + b) * n;
          std::copy_n(kvp + kept, n, v.data()), std::copy_n(ksp + kept, n, s.data());
          for (int64_t i = 0; i < steps; ++i)
            adam_step(up + ((begin + i) * batch + b) * n, &v[i * n], &s[i * n], &v[(i + 1) * n], &s[(i + 1) * n], n, rates);
          for (int64_t i = steps - 1; i >= 0; --i) {
            const int64_t at = ((begin + i) * batch + b) * n;
            adam_step_backward(up + at, &v[i * n], &v[(i + 1) * n], &s[(i + 1) * n], ddp + at, gvp + b * n, gsp + b * n, dup + at, n, rates,
                               total + 2 * b);
          }
        }
      }
    });
  });
  return {du, gv, gs, totals.sum(0)};
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(momentum, m) {
  m.def("adam(Tensor u, Tensor v0, Tensor s0, Tensor lengths, Tensor mu, Tensor epsilon, float beta, float tiny)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("adam_backward(Tensor dd, Tensor dv_n, Tensor ds_n, Tensor u, Tensor kept_v, Tensor kept_s, Tensor lengths, Tensor mu, Tensor epsilon,"
        " float beta, float tiny) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(momentum, CPU, m) {
  m.impl("adam", adam);
  m.impl("adam_backward", adam_backward);
}
