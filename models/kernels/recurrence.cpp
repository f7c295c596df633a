// Recurrences over a drive, forward and backward. A step is a small matrix product and one fused pass over the gates while they are in
// the cache.
//
// What is read is the drive, or inputs that are projected to it step by step, which spares writing the drive to memory.
//
// Layouts: drive [time, batch, gates * H], states [batch, H], lengths int64 [batch], falling. What lies past a row's length is zero.

#include "rows.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

#include <array>
#include <bit>
#include <mutex>
#include <optional>

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
inline double tangent(double x) { return std::tanh(x); }

// 2 sigmoid(2 x) - 1 cancels near 0: there the Taylor polynomial of degree 9 instead, whose error is below 1e-8 of the value.
inline float tangent(float x) {
  const float q = x * x;
  float p = 62.0f / 2835;
  p = p * q - 17.0f / 315;
  p = p * q + 2.0f / 15;
  p = p * q - 1.0f / 3;
  const float near = x + x * q * p, far = 2.0f * sigmoid(2.0f * x) - 1.0f;
  return q < 0.0625f ? near : far;
}

template <class F> inline void add_row(const F* row, F* total, int64_t n) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) total[j] += row[j];
}

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
  static void add_bias(const F* dr, const F*, F* db, int64_t width) { add_row(dr, db, width); }
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
  static void add_bias(const F* dr, const F*, F* db, int64_t width) { add_row(dr, db, width); }
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
  static void add_bias(const F* dr, const F* h, F* db, int64_t width) {
    if constexpr (A == Activation::modrelu) {  // sign(z) (|z| + b)
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) db[j] += h[j] < 0 ? -dr[j] : dr[j];
    } else {
      add_row(dr, db, width);
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
using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// x is the drive itself; or, with weight_ih [gates * H, inputs], what is projected to it.
template <class Cell, class F>
Forward forward(const Tensor& x, const std::optional<Tensor>& weight_ih, const Tensor& h0, const Tensor& c0, const Tensor& weight,
                const Tensor& bias, const Tensor& lengths) {
  const int64_t time = x.size(0), batch = x.size(1), n = h0.size(1), width = Cell::gates * n;
  TORCH_CHECK(x.dim() == 3 && x.size(2) == (weight_ih ? weight_ih->size(1) : width) && (!weight_ih || weight_ih->size(0) == width) &&
                  h0.size(0) == batch && (!Cell::cell || c0.sizes() == h0.sizes()) && weight.size(0) == width && weight.size(1) == n &&
                  bias.numel() == width,
              "expected x [time, batch, inputs] and weight_ih [", Cell::gates, " H, inputs], or a drive [time, batch, ", Cell::gates,
              " H]; h0 (and c0) [batch, H], weight [", Cell::gates, " H, H] and bias [", Cell::gates, " H]");
  const auto dense = checked_lengths(lengths, time, batch, true);
  const int64_t* until = readable<int64_t>(dense);
  const bool ragged = batch > 0 && until[batch - 1] < time;
  auto y = fresh({time, batch, n}, x, ragged);
  auto c = fresh({Cell::cell ? time : 0, batch, n}, x, ragged);
  auto saved = fresh({Cell::saved ? time : 0, batch, Cell::saved * n}, x, ragged);
  auto h_n = h0.clone(), c_n = c0.clone();
  const F *xp = readable<F>(x), *bp = readable<F>(bias);
  F *yp = writable<F>(y), *cp = writable<F>(c), *sp = writable<F>(saved);
  F *hnp = writable<F>(h_n), *cnp = writable<F>(c_n);
  const auto transposed = weight.t(), transposed_ih = weight_ih ? weight_ih->t() : Tensor();
  over_rows(batch, [&](int64_t lo, int64_t hi) {
    auto product = at::empty({hi - lo, width}, x.options());
    auto projected = at::empty({weight_ih ? hi - lo : 0, width}, x.options());
    F *rp = writable<F>(product), *pp = writable<F>(projected);
    for (int64_t t = 0; t < time; ++t) {
      const int64_t rows = running(until, lo, hi, t);
      if (rows == 0) break;
      auto out = product.narrow(0, 0, rows);
      const auto& h_before = t ? y.select(0, t - 1) : h0;
      at::mm_out(out, h_before.narrow(0, lo, rows), transposed);
      if (weight_ih) {
        auto drive = projected.narrow(0, 0, rows);
        at::mm_out(drive, x.select(0, t).narrow(0, lo, rows), transposed_ih);
      }
      for (int64_t b = lo; b < lo + rows; ++b) {
        const int64_t at = t * batch + b, before = at - batch;
        const F* d = weight_ih ? pp + (b - lo) * width : xp + at * width;
        const F* h_prev = t ? yp + before * n : hnp + b * n;
        const F* c_prev = Cell::cell ? (t ? cp + before * n : cnp + b * n) : nullptr;
        Cell::forward(d, rp + (b - lo) * width, bp, h_prev, c_prev, sp + at * Cell::saved * n, cp + at * n, yp + at * n, n);
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

// Rows of several steps, so that the products for the weights' gradients are large, but not too large for the cache.
constexpr int64_t block = 512;

// Returns the gradients of x, h0, c0, the recurrent weight, the bias, and weight_ih (transposed). That of x is empty unless `of_x`.
template <class Cell, class F>
Backward backward(const Tensor& dy, const Tensor& dh_n, const Tensor& dc_n, const Tensor& x, const std::optional<Tensor>& weight_ih,
                  const Tensor& h0, const Tensor& c0, const Tensor& weight, const Tensor& lengths, const Tensor& y, const Tensor& c,
                  const Tensor& saved, bool of_x) {
  const int64_t time = y.size(0), batch = y.size(1), n = y.size(2), width = Cell::gates * n, inputs = weight_ih ? x.size(2) : 0;
  const auto shape = std::array{time, batch, n};
  TORCH_CHECK(y.dim() == 3 && y.is_contiguous() && dy.sizes() == at::IntArrayRef(shape) && dh_n.sizes() == h0.sizes() &&
                  h0.sizes() == at::IntArrayRef(shape).slice(1) && (!Cell::cell || (c.is_contiguous() && c.sizes() == y.sizes() &&
                  c0.sizes() == h0.sizes() && dc_n.sizes() == h0.sizes())) && weight.size(0) == width && weight.size(1) == n &&
                  saved.is_contiguous() && saved.numel() == time * batch * Cell::saved * n &&
                  (!weight_ih || (x.dim() == 3 && x.size(0) == time && x.size(1) == batch && weight_ih->size(0) == width &&
                  weight_ih->size(1) == inputs)),
              "expected what the forward operator was given, and returned");
  const auto dense = checked_lengths(lengths, time, batch, true);
  const int64_t* until = readable<int64_t>(dense);
  const bool ragged = batch > 0 && until[batch - 1] < time;
  auto dx = of_x ? fresh({time, batch, weight_ih ? inputs : width}, y, ragged) : at::empty({0}, y.options());
  auto dh = dh_n.clone(), dc = dc_n.clone();
  auto dw = at::zeros({width, n}, y.options()), dw_ih = at::zeros({inputs, width}, y.options());
  auto db = at::zeros({width}, y.options());
  const F *dyp = readable<F>(dy), *xp = readable<F>(x), *yp = readable<F>(y), *cp = readable<F>(c), *sp = readable<F>(saved);
  const F *h0p = readable<F>(h0), *c0p = readable<F>(c0);
  F *dxp = writable<F>(dx), *dhp = writable<F>(dh), *dcp = writable<F>(dc), *total_db = writable<F>(db);
  std::mutex adding;
  over_rows(batch, [&](int64_t lo, int64_t hi) {
    const int64_t capacity = std::max(block, hi - lo);
    auto dd = at::empty({capacity, width}, y.options()), dr = at::empty({Cell::separate ? capacity : 0, width}, y.options());
    auto h = at::empty({capacity, n}, y.options()), u = at::empty({capacity, inputs}, y.options());
    auto my_dw = at::zeros_like(dw), my_dw_ih = at::zeros_like(dw_ih);
    std::vector<F> my_db(width, 0);
    F *ddp = writable<F>(dd), *drp = writable<F>(dr), *hp = writable<F>(h), *up = writable<F>(u);
    const Tensor& of_product = Cell::separate ? dr : dd;
    int64_t filled = 0;
    const auto flush = [&] {
      my_dw.addmm_(of_product.narrow(0, 0, filled).t(), h.narrow(0, 0, filled));
      if (weight_ih) my_dw_ih.addmm_(u.narrow(0, 0, filled).t(), dd.narrow(0, 0, filled));
      filled = 0;
    };
    for (int64_t t = time - 1; t >= 0; --t) {
      const int64_t rows = running(until, lo, hi, t);
      if (rows == 0) continue;
      if (filled + rows > capacity) flush();
      for (int64_t b = lo; b < lo + rows; ++b) {
        const int64_t at = t * batch + b, before = at - batch, row = filled + b - lo;
        const F* h_prev = t ? yp + before * n : h0p + b * n;
        const F* c_prev = Cell::cell ? (t ? cp + before * n : c0p + b * n) : nullptr;
        F *dh_row = dhp + b * n, *dd_row = ddp + row * width, *dr_row = Cell::separate ? drp + row * width : dd_row;
        const F* dy_row = dyp + at * n;
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) dh_row[j] += dy_row[j];
        Cell::backward(sp + at * Cell::saved * n, c_prev, cp + at * n, h_prev, yp + at * n, dh_row, dcp + b * n, dd_row, dr_row, n);
        Cell::add_bias(dr_row, yp + at * n, my_db.data(), width);
        std::copy_n(h_prev, n, hp + row * n);
        if (weight_ih) std::copy_n(xp + at * inputs, inputs, up + row * inputs);
        if (of_x && !weight_ih) std::copy_n(dd_row, width, dxp + at * width);
      }
      auto out = dh.narrow(0, lo, rows);
      out.addmm_(of_product.narrow(0, filled, rows), weight);
      if (of_x && weight_ih) {
        auto dx_t = dx.select(0, t).narrow(0, lo, rows);
        at::mm_out(dx_t, dd.narrow(0, filled, rows), *weight_ih);
      }
      filled += rows;
    }
    flush();
    const std::lock_guard guard(adding);
    dw.add_(my_dw);
    dw_ih.add_(my_dw_ih);
    for (int64_t j = 0; j < width; ++j) total_db[j] += my_db[j];
  });
  return {dx, dh, dc, dw, db, dw_ih};
}

template <class F, class Do> auto with_cell(c10::string_view kind, Do run) {
  if (kind == "lstm") return run(LSTM<F>{});
  if (kind == "gru") return run(GRU<F>{});
  if (kind == "rnn_tanh") return run(Elman<F, Activation::tanh>{});
  if (kind == "rnn_relu") return run(Elman<F, Activation::relu>{});
  if (kind == "orthogonal") return run(Elman<F, Activation::modrelu>{});
  TORCH_CHECK(false, "unknown recurrence ", kind);
}

using Weight = std::optional<Tensor>;

Forward recurrence(const Tensor& x, const Weight& weight_ih, const Tensor& h0, const Tensor& c0, const Tensor& weight, const Tensor& bias,
                   const Tensor& lengths, c10::string_view kind) {
  return AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "recurrence", [&] {
    return with_cell<scalar_t>(kind, [&](auto cell) {
      return forward<decltype(cell), scalar_t>(x.contiguous(), weight_ih, h0.contiguous(), c0.contiguous(), weight, bias.contiguous(), lengths);
    });
  });
}

Backward recurrence_backward(const Tensor& dy, const Tensor& dh_n, const Tensor& dc_n, const Tensor& x, const Weight& weight_ih, const Tensor& h0,
                             const Tensor& c0, const Tensor& weight, const Tensor& lengths, const Tensor& y, const Tensor& c, const Tensor& saved,
                             c10::string_view kind, bool of_x) {
  return AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "recurrence_backward", [&] {
    return with_cell<scalar_t>(kind, [&](auto cell) {
      return backward<decltype(cell), scalar_t>(dy.contiguous(), dh_n.contiguous(), dc_n.contiguous(), x.contiguous(), weight_ih, h0.contiguous(),
                                                c0.contiguous(), weight, lengths, y, c, saved, of_x);
    });
  });
}
}  // namespace

TORCH_LIBRARY_FRAGMENT(momentum, m) {
  m.def("recurrence(Tensor x, Tensor? weight_ih, Tensor h0, Tensor c0, Tensor weight, Tensor bias, Tensor lengths, str kind)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("recurrence_backward(Tensor dy, Tensor dh_n, Tensor dc_n, Tensor x, Tensor? weight_ih, Tensor h0, Tensor c0, Tensor weight,"
        " Tensor lengths, Tensor y, Tensor c, Tensor saved, str kind, bool of_x) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(momentum, CPU, m) {
  m.impl("recurrence", recurrence);
  m.impl("recurrence_backward", recurrence_backward);
}
