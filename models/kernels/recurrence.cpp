// Recurrences over a drive, forward and backward. A step is a small matrix product and one fused pass over the gates while they are in
// the cache.
//
// Layouts: drive [time, batch, gates * H], states [batch, H], lengths int64 [batch], falling. What lies past a row's length is zero.

#include "rows.h"

#include <ATen/ops/mm.h>

#include <bit>

namespace {

// ---- pointwise mathematics that compilers turn into vector instructions ----

inline double exponential(double x) { return std::exp(x); }

// e^x = 2^n e^r with |r| <= ln(2) / 2, e^r by its Taylor polynomial of degree 7: relative error about 1e-7. Keeps NaN.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float n = std::nearbyint(x * 1.44269504f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

template <class F> inline F sigmoid(F x) { return F(1) / (F(1) + exponential(-x)); }
template <class F> inline F tangent(F x) { return F(2) * sigmoid(F(2) * x) - F(1); }

// ---- cells: one row of H units, one step ----
// forward: drive d [gates * H], recurrent product r [gates * H] -> hidden state h, cell state c, what backward needs in saved.
// backward: dh is the whole gradient of h, dc that of c, updated to that of c_prev -> gradients dd of the drive and dr of the recurrent
// product (the same memory unless `separate`); dh becomes what reaches h_prev besides the product.

template <class F> struct LSTM {
  static constexpr int gates = 4, saved = 4;
  static constexpr bool cell = true, separate = false;
  static void forward(const F* d, const F* r, const F* b, const F*, const F* c_prev, F* s, F* c, F* h, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const F i = sigmoid(d[j] + r[j] + b[j]);
      const F f = sigmoid(d[n + j] + r[n + j] + b[n + j]);
      const F g = tangent(d[2 * n + j] + r[2 * n + j] + b[2 * n + j]);
      const F o = sigmoid(d[3 * n + j] + r[3 * n + j] + b[3 * n + j]);
      s[j] = i, s[n + j] = f, s[2 * n + j] = g, s[3 * n + j] = o;
      c[j] = f * c_prev[j] + i * g;
      h[j] = o * tangent(c[j]);
    }
  }
  static void backward(const F* s, const F* c_prev, const F* c, const F*, const F*, F* dh, F* dc, F* dd, F*, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const F i = s[j], f = s[n + j], g = s[2 * n + j], o = s[3 * n + j], t = tangent(c[j]);
      const F k = dc[j] + dh[j] * o * (1 - t * t);
      dd[j] = k * g * i * (1 - i);
      dd[n + j] = k * c_prev[j] * f * (1 - f);
      dd[2 * n + j] = k * i * (1 - g * g);
      dd[3 * n + j] = dh[j] * t * o * (1 - o);
      dc[j] = k * f;
      dh[j] = 0;
    }
  }
};

template <class F> struct GRU {
  static constexpr int gates = 3, saved = 4;
  static constexpr bool cell = false, separate = true;
  static void forward(const F* d, const F* r, const F* b, const F* h_prev, const F*, F* s, F*, F* h, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const F reset = sigmoid(d[j] + r[j] + b[j]);
      const F update = sigmoid(d[n + j] + r[n + j] + b[n + j]);
      const F inner = r[2 * n + j] + b[2 * n + j];
      const F candidate = tangent(d[2 * n + j] + reset * inner);
      s[j] = reset, s[n + j] = update, s[2 * n + j] = candidate, s[3 * n + j] = inner;
      h[j] = candidate + update * (h_prev[j] - candidate);
    }
  }
  static void backward(const F* s, const F*, const F*, const F* h_prev, const F*, F* dh, F*, F* dd, F* dr, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const F reset = s[j], update = s[n + j], candidate = s[2 * n + j], inner = s[3 * n + j];
      const F dn = dh[j] * (1 - update) * (1 - candidate * candidate);
      const F dz = dh[j] * (h_prev[j] - candidate) * update * (1 - update);
      const F dreset = dn * inner * reset * (1 - reset);
      dd[j] = dreset, dd[n + j] = dz, dd[2 * n + j] = dn;
      dr[j] = dreset, dr[n + j] = dz, dr[2 * n + j] = dn * reset;
      dh[j] *= update;
    }
  }
};

enum class Activation { tanh, relu, modrelu };

// Their derivative is a function of their value, so that nothing has to be saved.
template <class F, Activation A> struct Elman {
  static constexpr int gates = 1, saved = 0;
  static constexpr bool cell = false, separate = false;
  static void forward(const F* d, const F* r, const F* b, const F*, const F*, F*, F*, F* h, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const F z = d[j] + r[j];
      if constexpr (A == Activation::tanh) {
        h[j] = tangent(z + b[j]);
      } else if constexpr (A == Activation::relu) {
        const F a = z + b[j];
        h[j] = a < 0 ? F(0) : a;  // keeps NaN
      } else {
        const F a = std::abs(z) + b[j];
        h[j] = z == 0 || a < 0 ? F(0) : std::copysign(a, z);
      }
    }
  }
  static void backward(const F*, const F*, const F*, const F*, const F* h, F* dh, F*, F* dd, F*, int64_t n) {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      if constexpr (A == Activation::tanh) {
        dd[j] = dh[j] * (1 - h[j] * h[j]);
      } else {
        dd[j] = h[j] == 0 ? F(0) : dh[j];
      }
      dh[j] = 0;
    }
  }
};

// ---- the loop over time ----

// How many of the rows lo..hi are still running at time t, lengths falling.
inline int64_t running(const int64_t* lengths, int64_t lo, int64_t hi, int64_t t) {
  while (hi > lo && lengths[hi - 1] <= t) --hi;
  return hi - lo;
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class Cell, class F>
Forward forward(const Tensor& drive, const Tensor& h0, const Tensor& c0, const Tensor& weight, const Tensor& bias, const Tensor& lengths) {
  const int64_t time = drive.size(0), batch = drive.size(1), n = h0.size(1), width = Cell::gates * n;
  TORCH_CHECK(drive.dim() == 3 && drive.size(2) == width && h0.size(0) == batch && (!Cell::cell || c0.sizes() == h0.sizes()) &&
                  weight.size(0) == width && weight.size(1) == n && bias.numel() == width && lengths.numel() == batch,
              "expected drive [time, batch, ", Cell::gates, " H], h0 (and c0) [batch, H], weight [", Cell::gates, " H, H], bias [",
              Cell::gates, " H] and lengths [batch]");
  const int64_t *until = readable<int64_t>(lengths);
  const bool ragged = batch > 0 && until[batch - 1] < time;
  auto y = fresh({time, batch, n}, drive, ragged);
  auto c = fresh({Cell::cell ? time : 0, batch, n}, drive, ragged);
  auto saved = fresh({Cell::saved ? time : 0, batch, Cell::saved * n}, drive, ragged);
  auto h_n = h0.clone(), c_n = c0.clone();
  const F *dp = readable<F>(drive), *bp = readable<F>(bias);
  F *yp = writable<F>(y), *cp = writable<F>(c), *sp = writable<F>(saved);
  F *hnp = writable<F>(h_n), *cnp = writable<F>(c_n);
  const auto transposed = weight.t();
  over_rows(batch, [&](int64_t lo, int64_t hi) {
    auto product = at::empty({hi - lo, width}, drive.options());
    F* rp = writable<F>(product);
    for (int64_t t = 0; t < time; ++t) {
      const int64_t rows = running(until, lo, hi, t);
      if (rows == 0) break;
      auto out = product.narrow(0, 0, rows);
      const auto& h_before = t ? y.select(0, t - 1) : h0;
      at::mm_out(out, h_before.narrow(0, lo, rows), transposed);
      for (int64_t b = lo; b < lo + rows; ++b) {
        const int64_t at = t * batch + b, before = at - batch;
        const F* h_prev = t ? yp + before * n : hnp + b * n;
        const F* c_prev = Cell::cell ? (t ? cp + before * n : cnp + b * n) : nullptr;
        Cell::forward(dp + at * width, rp + (b - lo) * width, bp, h_prev, c_prev, sp + at * Cell::saved * n, cp + at * n, yp + at * n, n);
      }
    }
    for (int64_t b = lo; b < hi; ++b) {
      if (until[b] == 0) continue;
      const int64_t last = ((until[b] - 1) * batch + b) * n;
      std::copy_n(yp + last, n, hnp + b * n);
      if (Cell::cell) std::copy_n(cp + last, n, cnp + b * n);
    }
  });
  return {y, h_n, c_n, c, saved};
}

// Returns the gradients of the drive, h0 and c0, and that of the recurrent product where it is not the drive's.
template <class Cell, class F>
Backward backward(const Tensor& dy, const Tensor& dh_n, const Tensor& dc_n, const Tensor& h0, const Tensor& c0, const Tensor& weight,
                  const Tensor& lengths, const Tensor& y, const Tensor& c, const Tensor& saved) {
  const int64_t time = y.size(0), batch = y.size(1), n = y.size(2), width = Cell::gates * n;
  const int64_t* until = readable<int64_t>(lengths);
  const bool ragged = batch > 0 && until[batch - 1] < time;
  auto dd = fresh({time, batch, width}, y, ragged);
  auto dr = Cell::separate ? fresh({time, batch, width}, y, ragged) : at::empty({0}, y.options());
  auto dh = dh_n.clone(), dc = dc_n.clone();
  const auto& of_product = Cell::separate ? dr : dd;
  const F *dyp = readable<F>(dy), *yp = readable<F>(y), *cp = readable<F>(c), *sp = readable<F>(saved);
  const F *h0p = readable<F>(h0), *c0p = readable<F>(c0);
  F *ddp = writable<F>(dd), *drp = writable<F>(dr), *dhp = writable<F>(dh), *dcp = writable<F>(dc);
  over_rows(batch, [&](int64_t lo, int64_t hi) {
    for (int64_t t = time - 1; t >= 0; --t) {
      const int64_t rows = running(until, lo, hi, t);
      if (rows == 0) continue;
      for (int64_t b = lo; b < lo + rows; ++b) {
        const int64_t at = t * batch + b, before = at - batch;
        const F* h_prev = t ? yp + before * n : h0p + b * n;
        const F* c_prev = Cell::cell ? (t ? cp + before * n : c0p + b * n) : nullptr;
        F* dh_row = dhp + b * n;
        const F* dy_row = dyp + at * n;
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) dh_row[j] += dy_row[j];
        Cell::backward(sp + at * Cell::saved * n, c_prev, cp + at * n, h_prev, yp + at * n, dh_row, dcp + b * n, ddp + at * width,
                       drp + at * width, n);
      }
      auto out = dh.narrow(0, lo, rows);
      out.addmm_(of_product.select(0, t).narrow(0, lo, rows), weight);
    }
  });
  return {dd, dh, dc, dr};
}

template <class F, class Do> auto with_cell(c10::string_view kind, Do run) {
  if (kind == "lstm") return run(LSTM<F>{});
  if (kind == "gru") return run(GRU<F>{});
  if (kind == "rnn_tanh") return run(Elman<F, Activation::tanh>{});
  if (kind == "rnn_relu") return run(Elman<F, Activation::relu>{});
  if (kind == "orthogonal") return run(Elman<F, Activation::modrelu>{});
  TORCH_CHECK(false, "unknown recurrence ", kind);
}

Forward recurrence(const Tensor& drive, const Tensor& h0, const Tensor& c0, const Tensor& weight, const Tensor& bias, const Tensor& lengths,
                   c10::string_view kind) {
  return AT_DISPATCH_FLOATING_TYPES(drive.scalar_type(), "recurrence", [&] {
    return with_cell<scalar_t>(kind, [&](auto cell) {
      return forward<decltype(cell), scalar_t>(drive.contiguous(), h0.contiguous(), c0.contiguous(), weight, bias.contiguous(), lengths);
    });
  });
}

Backward recurrence_backward(const Tensor& dy, const Tensor& dh_n, const Tensor& dc_n, const Tensor& h0, const Tensor& c0, const Tensor& weight,
                             const Tensor& lengths, const Tensor& y, const Tensor& c, const Tensor& saved, c10::string_view kind) {
  return AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "recurrence_backward", [&] {
    return with_cell<scalar_t>(kind, [&](auto cell) {
      return backward<decltype(cell), scalar_t>(dy.contiguous(), dh_n.contiguous(), dc_n.contiguous(), h0.contiguous(), c0.contiguous(), weight,
                                                lengths, y, c, saved);
    });
  });
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(momentum, m) {
  m.def("recurrence(Tensor drive, Tensor h0, Tensor c0, Tensor weight, Tensor bias, Tensor lengths, str kind)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("recurrence_backward(Tensor dy, Tensor dh_n, Tensor dc_n, Tensor h0, Tensor c0, Tensor weight, Tensor lengths, Tensor y, Tensor c,"
        " Tensor saved, str kind) -> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(momentum, CPU, m) {
  m.impl("recurrence", recurrence);
  m.impl("recurrence_backward", recurrence_backward);
}
