// The kernels as operators of PyTorch, through its stable ABI (docs.pytorch.org/docs/stable/notes/libtorch_stable_abi.html),
// which needs few headers. A call costs a few microseconds. The same through Python took up to a hundred microseconds when
// the interpreter's code had left the cache, more than the work on a small map. operators.py declares the operators.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <optional>
#include <tuple>

#include "kernels.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;
template <size_t SIZE>
using Sizes = std::array<int64_t, SIZE>;

template <size_t SIZE>
Tensor empty(const Sizes<SIZE>& size, const Sizes<SIZE>& stride, ScalarType dtype) {
    AtenTensorHandle made;
    int32_t kind = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_empty_strided(SIZE, size.data(), stride.data(), kind, aoti_torch_device_type_cpu(), 0, &made));
    return Tensor(made);
}
template <class... Ints>
Tensor small(Ints... sizes) {  // in fp32, contiguous
    Sizes<sizeof...(sizes)> size{int64_t(sizes)...}, stride{};
    int64_t step = 1;
    for (size_t i = size.size(); i-- > 0; step *= size[i]) stride[i] = step;
    return empty(size, stride, ScalarType::Float);
}

float* at(const Tensor& t) { return static_cast<float*>(t.data_ptr()); }

// Check the shape and dtype of a small tensor, and make it contiguous: rows x columns.
void settle(Tensor& t, int64_t rows, int64_t columns = 1) {
    bool shaped = t.scalar_type() == ScalarType::Float && t.numel() == rows * columns;
    shaped = shaped && (columns == 1 || (t.dim() == 2 && t.size(0) == rows));
    STD_TORCH_CHECK(shaped, "cnnperf: expected ", rows, " x ", columns, " numbers in float32, got ", t.numel(),
                    t.scalar_type() == ScalarType::Float ? "" : " in another dtype");
    if (t.is_contiguous()) return;
    Tensor moved = columns == 1 && t.dim() == 1 ? small(rows) : small(rows, columns);
    torch::stable::copy_(moved, t);
    t = moved;
}
void settle(Maybe& t, int64_t rows) {
    if (t) settle(*t, rows);
}
float* at(const Maybe& t) { return t ? at(*t) : nullptr; }

// --- maps: those of a call come in any layout (`raw`) and are converted to that of the first --------------------------------

Sizes<4> strides_of(const Shape& z, int64_t width) {
    int64_t p = z.p, c = z.c;
    return z.last ? Sizes<4>{c * p, 1, c * width, c} : Sizes<4>{c * p, p, width, 1};
}

struct Layout {
    Shape shape;
    Sizes<4> size, stride;
    ScalarType dtype;

    explicit Layout(const Tensor& x) : dtype(x.scalar_type()) {
        STD_TORCH_CHECK(x.dim() == 4 && x.numel() > 0, "cnnperf: expected a map of N x C x H x W that is not empty");
        for (int i = 0; i < 4; ++i) size[i] = x.size(i);
        shape = {size[0], size[1], size[2] * size[3], false, int(torch::stable::get_num_threads()), exceeds_cache(x.numel() * x.element_size())};
        stride = strides_of(shape, size[3]);
        if (is(x)) return;
        shape.last = true;
        stride = strides_of(shape, size[3]);
        if (is(x)) return;
        shape.last = false;
        stride = strides_of(shape, size[3]);
    }
    bool is(const Tensor& t) const {  // the stride of a dimension of size 1 does not matter
        for (int i = 0; i < 4; ++i)
            if (size[i] > 1 && t.stride(i) != stride[i]) return false;
        return true;
    }
    Tensor make() const { return empty(size, stride, dtype); }
    Tensor make_mask() const { return empty(size, stride, ScalarType::Byte); }
    Tensor take(const Tensor& t, ScalarType kind) const {
        STD_TORCH_CHECK(t.scalar_type() == kind && t.dim() == 4, "cnnperf: the maps of one call differ in dtype or dimensions");
        for (int i = 0; i < 4; ++i) STD_TORCH_CHECK(t.size(i) == size[i], "cnnperf: the maps of one call differ in shape");
        if (is(t)) return t;
        Tensor moved = empty(size, stride, kind);
        torch::stable::copy_(moved, t);
        return moved;
    }
    Tensor take(const Tensor& t) const { return take(t, dtype); }
};

template <class T>
T* at(const Tensor& t) { return static_cast<T*>(t.data_ptr()); }

// Call f with a null pointer to the storage type of a map.
template <class F>
void by_dtype(ScalarType dtype, F f) {
    STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::BFloat16, "cnnperf: expected a map in float32 or bfloat16");
    if (dtype == ScalarType::Float) f(static_cast<float*>(nullptr));
    else f(static_cast<bf16*>(nullptr));
}
#define STORED std::remove_pointer_t<decltype(null)>

Excitation excitation(const Shape& z, Tensor& reduce, Tensor& expand) {
    int64_t hidden = reduce.size(0);
    settle(reduce, hidden, z.c);
    settle(expand, z.c, hidden);
    return {at(reduce), at(expand), nullptr, nullptr, hidden, false, false};
}
Excitation excitation(const Shape& z, Tensor& reduce, Tensor& expand, Maybe& reduce_bias, Maybe& expand_bias) {
    Excitation e = excitation(z, reduce, expand);
    settle(reduce_bias, e.hidden);
    settle(expand_bias, z.c);
    return {e.reduce, e.expand, at(reduce_bias), at(expand_bias), e.hidden, false, false};
}

// --- the operators ----------------------------------------------------------------------------------------------------------

using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using Eight = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Five se_forward_(Tensor raw, Tensor reduce, Tensor expand, Maybe reduce_bias, Maybe expand_bias, bool silu, bool hard) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Excitation e = excitation(z, reduce, expand, reduce_bias, expand_bias);
    e.silu = silu, e.hard = hard;
    Tensor x = layout.take(raw), out = layout.make(), squeezed = small(z.n, z.c), gate = small(z.n, z.c);
    Tensor hidden = small(z.n, e.hidden), slopes = small(z.n, e.hidden), scratch = small(z.c, e.hidden);
    by_dtype(layout.dtype, [&](auto* null) {
        se_forward<STORED>(z, at<STORED>(x), e, at<STORED>(out), at(squeezed), at(hidden), at(slopes), at(gate), at(scratch));
    });
    return {out, squeezed, hidden, slopes, gate};
}

Five se_backward_(Tensor grad, Tensor raw, Tensor reduce, Tensor expand, Tensor squeezed, Tensor hidden, Tensor slopes, Tensor gate,
                  bool silu, bool hard) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Excitation e = excitation(z, reduce, expand);
    e.silu = silu, e.hard = hard;
    int64_t nc = z.n * z.c;
    settle(squeezed, z.n, z.c);
    settle(hidden, z.n, e.hidden);
    settle(slopes, z.n, e.hidden);
    settle(gate, z.n, z.c);
    Tensor x = layout.take(raw), upstream = layout.take(grad), dx = layout.make();
    Tensor dreduce = small(e.hidden, z.c), dexpand = small(z.c, e.hidden), into_gate = small(z.n, z.c);
    Tensor into_activation = small(z.n, e.hidden), scratch = small(2 * nc + z.c * e.hidden);
    by_dtype(layout.dtype, [&](auto* null) {
        se_backward<STORED>(z, at<STORED>(x), at<STORED>(upstream), e, at(squeezed), at(hidden), at(slopes),
                            at(gate), at<STORED>(dx), at(dreduce), at(dexpand), at(into_activation), at(into_gate),
                            at(scratch));
    });
    return {dx, dreduce, dexpand, into_activation, into_gate};
}

Norm norm_of(const Shape& z, Tensor& weight, Tensor& bias, double eps) {
    settle(weight, z.c);
    settle(bias, z.c);
    return {at(weight), at(bias), float(eps)};
}

// Return the data of running statistics, which are updated in place.
float* writable(Maybe& t, int64_t count) {
    STD_TORCH_CHECK(!t || t->is_contiguous(), "cnnperf: expected running statistics that are contiguous");
    settle(t, count);
    return at(t);
}

// Count a batch and return its weight. Without a momentum the running statistics are the average over all batches.
float count_batch(const Maybe& batches, std::optional<double> momentum) {
    if (!batches) return float(momentum ? *momentum : 0);
    STD_TORCH_CHECK(batches->scalar_type() == ScalarType::Long && batches->numel() == 1, "cnnperf: expected a count of batches in int64");
    int64_t count = ++*at<int64_t>(*batches);
    return float(momentum ? *momentum : 1.0 / double(count));
}

Eight tail_forward_(Tensor raw, Tensor raw_shortcut, Tensor weight, Tensor bias, Tensor reduce, Tensor expand, Maybe reduce_bias,
                    Maybe expand_bias, double eps, Maybe running_mean, Maybe running_variance, Maybe batches, std::optional<double> momentum) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Excitation e = excitation(z, reduce, expand, reduce_bias, expand_bias);
    Norm norm = norm_of(z, weight, bias, eps);
    Tensor x = layout.take(raw), shortcut = layout.take(raw_shortcut), out = layout.make(), mask = layout.make_mask();
    Tensor mean = small(z.n, z.c), squeezed = small(z.n, z.c), gate = small(z.n, z.c), hidden = small(z.n, e.hidden);
    Tensor mu = small(z.c), variance = small(z.c), scratch = small(2 * z.n * z.c + z.c * e.hidden + z.c);
    Running running{writable(running_mean, z.c), writable(running_variance, z.c), 0};
    running.momentum = count_batch(batches, momentum);
    by_dtype(layout.dtype, [&](auto* null) {
        tail_forward<STORED>(z, at<STORED>(x), at<STORED>(shortcut), norm, running, e, at<STORED>(out), at<uint8_t>(mask), at(mean),
                             at(mu), at(variance), at(squeezed), at(hidden), at(gate), at(scratch));
    });
    return {out, mask, mean, mu, variance, squeezed, hidden, gate};
}

Eight tail_training_(Tensor x, Tensor shortcut, Tensor weight, Tensor bias, Tensor reduce, Tensor expand, Maybe reduce_bias,
                     Maybe expand_bias, double eps) {
    return tail_forward_(x, shortcut, weight, bias, reduce, expand, reduce_bias, expand_bias, eps, {}, {}, {}, {});
}

// The biases themselves are not needed: their gradients are sums of the factors of the weights' gradients.
Eight tail_backward_(Tensor grad, Tensor raw, Tensor raw_mask, Tensor mean, Tensor mu, Tensor variance, Tensor squeezed,
                     Tensor hidden, Tensor gate, Tensor weight, Tensor bias, Tensor reduce, Tensor expand, Maybe, Maybe, double eps) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Excitation e = excitation(z, reduce, expand);
    Norm norm = norm_of(z, weight, bias, eps);
    int64_t nc = z.n * z.c, nh = z.n * e.hidden;
    for (Tensor* t : {&mean, &squeezed, &gate}) settle(*t, z.n, z.c);
    for (Tensor* t : {&mu, &variance}) settle(*t, z.c);
    settle(hidden, z.n, e.hidden);
    Tensor x = layout.take(raw), upstream = layout.take(grad), mask = layout.take(raw_mask, ScalarType::Byte);
    Tensor dx = layout.make(), dshortcut = layout.make(), dweight = small(z.c), dbias = small(z.c);
    Tensor dreduce = small(e.hidden, z.c), dexpand = small(z.c, e.hidden), dreduce_bias = small(e.hidden), dexpand_bias = small(z.c);
    Tensor scratch = small(6 * nc + nh + z.c * e.hidden + z.c);
    by_dtype(layout.dtype, [&](auto* null) {
        tail_backward<STORED>(z, at<STORED>(x), at<STORED>(upstream), at<uint8_t>(mask), norm, e,
                              {at(mean), at(mu), at(variance), at(gate)}, at(squeezed), at(hidden), at<STORED>(dx),
                              at<STORED>(dshortcut), at(dweight), at(dbias),
                              {at(dreduce), at(dexpand), at(dreduce_bias), at(dexpand_bias)}, at(scratch));
    });
    return {dx, dshortcut, dweight, dbias, dreduce, dexpand, dreduce_bias, dexpand_bias};
}

// --- forward and backward in two halves, for a batch that is spread over processes ------------------------------------------

std::tuple<Tensor, Tensor> tail_moments_(Tensor raw) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Tensor x = layout.take(raw), mean = small(z.n, z.c), within = small(z.n, z.c);
    by_dtype(layout.dtype, [&](auto* null) { tail_moments<STORED>(z, at<STORED>(x), at(mean), at(within)); });
    return {mean, within};
}

Five tail_normalized_(Tensor raw, Tensor raw_shortcut, Tensor mean, Tensor mu, Tensor variance, Tensor weight, Tensor bias, Tensor reduce,
                      Tensor expand, Maybe reduce_bias, Maybe expand_bias, double eps) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Excitation e = excitation(z, reduce, expand, reduce_bias, expand_bias);
    Norm norm = norm_of(z, weight, bias, eps);
    settle(mean, z.n, z.c);
    for (Tensor* t : {&mu, &variance}) settle(*t, z.c);
    Tensor x = layout.take(raw), shortcut = layout.take(raw_shortcut), out = layout.make(), mask = layout.make_mask();
    Tensor squeezed = small(z.n, z.c), gate = small(z.n, z.c), hidden = small(z.n, e.hidden);
    Tensor scratch = small(2 * z.n * z.c + z.c * e.hidden + z.c);
    by_dtype(layout.dtype, [&](auto* null) {
        tail_normalized<STORED>(z, at<STORED>(x), at<STORED>(shortcut), norm, e, at(mean), at(mu), at(variance), at<STORED>(out),
                                at<uint8_t>(mask), at(squeezed), at(hidden), at(gate), at(scratch));
    });
    return {out, mask, squeezed, hidden, gate};
}

Eight tail_sums_(Tensor grad, Tensor raw, Tensor raw_mask, Tensor mean, Tensor mu, Tensor variance, Tensor squeezed, Tensor hidden,
                 Tensor gate, Tensor weight, Tensor bias, Tensor reduce, Tensor expand, Maybe, Maybe, double eps) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Excitation e = excitation(z, reduce, expand);
    Norm norm = norm_of(z, weight, bias, eps);
    int64_t nc = z.n * z.c;
    for (Tensor* t : {&mean, &squeezed, &gate}) settle(*t, z.n, z.c);
    for (Tensor* t : {&mu, &variance}) settle(*t, z.c);
    settle(hidden, z.n, e.hidden);
    Tensor x = layout.take(raw), upstream = layout.take(grad), mask = layout.take(raw_mask, ScalarType::Byte);
    Tensor dshortcut = layout.make(), dweight = small(z.c), dbias = small(z.c), dsqueezed = small(z.n, z.c);
    Tensor dreduce = small(e.hidden, z.c), dexpand = small(z.c, e.hidden), dreduce_bias = small(e.hidden), dexpand_bias = small(z.c);
    Tensor scratch = small(4 * nc + z.n * e.hidden + z.c * e.hidden + z.c);
    by_dtype(layout.dtype, [&](auto* null) {
        tail_sums<STORED>(z, at<STORED>(x), at<STORED>(upstream), at<uint8_t>(mask), norm, e,
                          {at(mean), at(mu), at(variance), at(gate)}, at(squeezed), at(hidden), at<STORED>(dshortcut), at(dweight),
                          at(dbias), {at(dreduce), at(dexpand), at(dreduce_bias), at(dexpand_bias)}, at(dsqueezed), at(scratch));
    });
    return {dshortcut, dweight, dbias, dreduce, dexpand, dreduce_bias, dexpand_bias, dsqueezed};
}

Tensor tail_blend_(Tensor passed, Tensor raw, Tensor mu, Tensor variance, Tensor gate, Tensor dsqueezed, Tensor weight, Tensor dweight,
                   Tensor dbias, double eps, double values) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    for (Tensor* t : {&gate, &dsqueezed}) settle(*t, z.n, z.c);
    for (Tensor* t : {&mu, &variance, &weight, &dweight, &dbias}) settle(*t, z.c);
    Tensor x = layout.take(raw), dshortcut = layout.take(passed), dx = layout.make(), scratch = small(3 * z.n * z.c + z.c);
    by_dtype(layout.dtype, [&](auto* null) {
        tail_blend<STORED>(z, at<STORED>(x), at<STORED>(dshortcut), at(weight), float(eps), {nullptr, at(mu), at(variance), at(gate)},
                           at(dsqueezed), at(dweight), at(dbias), values, at<STORED>(dx), at(scratch));
    });
    return dx;
}

Frozen frozen(const Shape& z, Tensor& weight, Tensor& bias, Tensor& mean, Tensor& variance, double eps) {
    for (Tensor* t : {&weight, &bias, &mean, &variance}) settle(*t, z.c);
    return {at(weight), at(bias), at(mean), at(variance), float(eps)};
}

// Return scale and shift in one tensor, because in a compiled network each result of an operator costs time in Python.
Tensor tail_scaling_(Tensor raw, Maybe squeezed, Tensor weight, Tensor bias, Tensor mean, Tensor variance, double eps,
                     Tensor reduce, Tensor expand, Maybe reduce_bias, Maybe expand_bias) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Excitation e = excitation(z, reduce, expand, reduce_bias, expand_bias);
    Frozen norm = frozen(z, weight, bias, mean, variance, eps);
    if (squeezed) settle(*squeezed, z.n, z.c);
    Tensor x = layout.take(raw), scaling = small(2, z.n, z.c);
    Tensor scratch = small(z.n * z.c + z.n * e.hidden + z.c * e.hidden + z.c);
    float* scale = at(scaling);
    by_dtype(layout.dtype, [&](auto* null) {
        tail_scaling<STORED>(z, at<STORED>(x), at(squeezed), norm, e, scale, scale + z.n * z.c, at(scratch));
    });
    return scaling;
}

Tensor tail_inference_(Tensor raw, Tensor raw_shortcut, Maybe squeezed, Tensor weight, Tensor bias, Tensor mean, Tensor variance, double eps,
                       Tensor reduce, Tensor expand, Maybe reduce_bias, Maybe expand_bias) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Excitation e = excitation(z, reduce, expand, reduce_bias, expand_bias);
    Frozen norm = frozen(z, weight, bias, mean, variance, eps);
    if (squeezed) settle(*squeezed, z.n, z.c);
    Tensor x = layout.take(raw), shortcut = layout.take(raw_shortcut), out = layout.make();
    Tensor scratch = small(3 * z.n * z.c + z.n * e.hidden + z.c * e.hidden + z.c);
    by_dtype(layout.dtype, [&](auto* null) {
        tail_inference<STORED>(z, at<STORED>(x), at<STORED>(shortcut), at(squeezed), norm, e, at<STORED>(out), at(scratch));
    });
    return out;
}

std::tuple<Tensor, Tensor> rectified_norm_(Tensor raw, Tensor weight, Tensor bias, Tensor mean, Tensor variance, double eps) {
    Layout layout(raw);
    const Shape& z = layout.shape;
    Frozen norm = frozen(z, weight, bias, mean, variance, eps);
    Tensor x = layout.take(raw), out = layout.make(), sums = small(z.n, z.c, 3, 3), scratch = small(2 * z.c);
    by_dtype(layout.dtype, [&](auto* null) {
        rectified_norm<STORED>(z, layout.size[3], at<STORED>(x), norm, at<STORED>(out), at(sums), at(scratch));
    });
    return {out, sums};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(cnnperf, CPU, m) {
    m.impl("se_forward", TORCH_BOX(&se_forward_));
    m.impl("se_backward", TORCH_BOX(&se_backward_));
    m.impl("tail_forward", TORCH_BOX(&tail_forward_));
    m.impl("tail_training", TORCH_BOX(&tail_training_));
    m.impl("se_training", TORCH_BOX(&se_forward_));
    m.impl("tail_backward", TORCH_BOX(&tail_backward_));
    m.impl("tail_moments", TORCH_BOX(&tail_moments_));
    m.impl("tail_normalized", TORCH_BOX(&tail_normalized_));
    m.impl("tail_sums", TORCH_BOX(&tail_sums_));
    m.impl("tail_blend", TORCH_BOX(&tail_blend_));
    m.impl("tail_scaling", TORCH_BOX(&tail_scaling_));
    m.impl("tail_inference", TORCH_BOX(&tail_inference_));
    m.impl("rectified_norm", TORCH_BOX(&rectified_norm_));
}
