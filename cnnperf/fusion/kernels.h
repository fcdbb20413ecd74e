// Squeeze-and-Excitation alone, and the tail of a residual block (BatchNorm, SE, shortcut, ReLU), for the CPU.
//
// A map x is N x C x H x W, either contiguous (planes of P = H W numbers) or channels_last (P pixels of C numbers).
// Whole maps are read and written as rarely as the formulas of algebra.py allow; what is of size N x C is cheap, but not
// free where the maps are small, so that it is laid out for vectors too.
// Only pointers and sizes come here; operators.cpp has to do with tensors.
#pragma once
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <omp.h>
#include <thread>
#include <type_traits>
#if defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#endif

namespace {

// --- threads -----------------------------------------------------------------------------------------------------------------

// Numbers read, written or multiplied, below which waking a sleeping second thread (some 45 us) costs more than it brings:
// measured on two cores, where both ways took the same time at 0.8 to 2 million.
constexpr int64_t WORTH_SHARING = 1 << 20;
constexpr int PATIENCE = 2000;              // looks at a shared counter before a thread lets others have its processor

// Where threads wait for each other. With OMP_WAIT_POLICY=PASSIVE, which keeps a busy machine usable, a barrier of OpenMP
// sleeps in the kernel; at some six barriers a call that took longer than all the work on a small map.
class Meeting {
  public:
    void wait(int threads) {
        int round = round_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        for (int looks = 0; round_.load(std::memory_order_acquire) == round; ++looks)
            if (looks > PATIENCE) std::this_thread::yield();
    }

  private:
    std::atomic<int> arrived_{0}, round_{0};
};

struct Team {
    Meeting* meeting;
    int thread, threads;
    template <class F>
    inline void share(int64_t count, F f) const {  // the same thread gets the same part every time, for its cache
        for (int64_t i = count * thread / threads; i < count * (thread + 1) / threads; ++i) f(i);
    }
    inline void meet() const {
        if (threads > 1) meeting->wait(threads);
    }
};

template <class F>
inline void in_parallel(int64_t work, int threads, F body) {
    Meeting meeting;
#pragma omp parallel num_threads(threads) if (work >= WORTH_SHARING)
    body(Team{&meeting, omp_get_thread_num(), omp_get_num_threads()});
}

// --- sixteen numbers at a time, in fp32 whatever they are stored as ------------------------------------------------------

constexpr int64_t LANES = 16;
typedef float V __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));
typedef uint16_t Half __attribute__((vector_size(32)));
typedef uint8_t Byte __attribute__((vector_size(16)));
struct bf16 { uint16_t bits; };

// The first bytes of a vector, the others 0. A copy of a size that the compiler does not know is a call, which on planes of
// 7 x 7 took longer than all the rest; AVX-512 has instructions for it.
#if defined(__AVX512BW__) && defined(__AVX512VL__)
inline void fetch_some(__m512i& value, const void* from, uint64_t which) { value = _mm512_maskz_loadu_epi8(which, from); }
inline void fetch_some(__m256i& value, const void* from, uint64_t which) { value = _mm256_maskz_loadu_epi8(uint32_t(which), from); }
inline void fetch_some(__m128i& value, const void* from, uint64_t which) { value = _mm_maskz_loadu_epi8(uint16_t(which), from); }
inline void put_some(void* to, __m512i value, uint64_t which) { _mm512_mask_storeu_epi8(to, which, value); }
inline void put_some(void* to, __m256i value, uint64_t which) { _mm256_mask_storeu_epi8(to, uint32_t(which), value); }
inline void put_some(void* to, __m128i value, uint64_t which) { _mm_mask_storeu_epi8(to, uint16_t(which), value); }
template <class T>
using Raw = std::conditional_t<sizeof(T) == 64, __m512i, std::conditional_t<sizeof(T) == 32, __m256i, __m128i>>;
template <class T>
inline T fetch_first(const void* from, int64_t bytes) {
    Raw<T> raw;
    fetch_some(raw, from, (uint64_t(1) << bytes) - 1);
    return (T)raw;
}
template <class T>
inline void put_first(void* to, const T& value, int64_t bytes) { put_some(to, (Raw<T>)value, (uint64_t(1) << bytes) - 1); }
#else
template <class T>
inline T fetch_first(const void* from, int64_t bytes) {
    T value = {};
    std::memcpy(&value, from, bytes);
    return value;
}
template <class T>
inline void put_first(void* to, const T& value, int64_t bytes) { std::memcpy(to, &value, bytes); }
#endif

template <class T>
inline T fetch(const void* from, int64_t bytes) {
    if (bytes != int64_t(sizeof(T))) return fetch_first<T>(from, bytes);
    T value;
    std::memcpy(&value, from, sizeof(T));
    return value;
}
template <class T>
inline void put(void* to, const T& value, int64_t bytes) {
    if (bytes == int64_t(sizeof(T))) std::memcpy(to, &value, sizeof(T));
    else put_first(to, value, bytes);
}

inline V load(const float* p, int64_t count) { return fetch<V>(p, 4 * count); }
inline V load(const bf16* p, int64_t count) { return (V)(__builtin_convertvector(fetch<Half>(p, 2 * count), U) << 16); }
inline void store(float* p, V value, int64_t count) { put(p, value, 4 * count); }
inline void store(bf16* p, V value, int64_t count) {  // round to nearest, ties to even; a NaN stays one
    U wide = (U)value, rounded = (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16;
    U nan = (U)(value != value);
    put(p, __builtin_convertvector((rounded & ~nan) | (nan & 0x7FC0), Half), 2 * count);
}
inline V load_mask(const uint8_t* p, int64_t count) {  // all bits of a lane, or none
    return (V)(-__builtin_convertvector(fetch<Byte>(p, count), U));
}
inline void store_mask(uint8_t* p, U all_bits, int64_t count) { put(p, __builtin_convertvector(all_bits & 1, Byte), count); }
inline V both(V value, V mask) { return (V)((U)value & (U)mask); }
inline V rectify(V y) { return both(y, (V)(~(U)(y <= 0))); }  // a NaN stays one
inline V clamp_to_one(V y) {  // to 0 and 1; a NaN stays one
    U above = (U)(y > 1);
    return rectify((V)(((U)y & ~above) | ((U)(1.f - V{}) & above)));
}
template <int64_t BY>
inline V folded(V value) {  // each lane plus the one BY lanes away
    U other;
    for (int64_t i = 0; i < LANES; ++i) other[i] = uint32_t(i ^ BY);
    return value + __builtin_shuffle(value, other);
}
inline float total(V value) { return folded<1>(folded<2>(folded<4>(folded<8>(value))))[0]; }

// e^x within 2 units in the last place: 2^n e^r with n = round(x / ln 2), and the Taylor polynomial of e^r, |r| <= ln(2) / 2.
inline V exponential(V x) {
    x = (V)(((U)x & (U)(x < 88.f)) | ((U)(V{} + 88.f) & ~(U)(x < 88.f)));
    x = (V)(((U)x & (U)(x > -87.f)) | ((U)(V{} - 87.f) & ~(U)(x > -87.f)));
    V shifted = x * 1.44269504f + 12582912.f, n = shifted - 12582912.f;  // adding 1.5 * 2^23 rounds to an integer
    V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    V y = 1.f / 5040 - V{};
    y = y * r + 1.f / 720;
    y = y * r + 1.f / 120;
    y = y * r + 1.f / 24;
    y = y * r + 1.f / 6;
    y = y * r + 0.5f;
    y = y * r + 1.f;
    y = y * r + 1.f;
    return y * (V)(((U)shifted - 0x4B400000u + 127u) << 23);
}
inline V sigmoid(V x) {  // a NaN stays one, which the bounds above would make a number
    V y = 1 / (1 + exponential(-x));
    return (V)(((U)y & ~(U)(x != x)) | ((U)x & (U)(x != x)));
}

// Call f(i, count) for i = 0, 16, ... below size; count is the constant 16 but for the last.
template <class F>
inline void in_lanes(int64_t size, F f) {
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) f(i, LANES);
    if (i < size) f(i, size - i);
}

struct Shape { int64_t n, c, p; bool last; int threads; };

// --- reductions over the pixels of one sample -----------------------------------------------------------------------------

constexpr int64_t VECTORS = 4;             // accumulators kept in registers
constexpr int64_t BLOCK = VECTORS * LANES; // channels of one row in channels_last
constexpr int64_t STRETCH = 512;           // terms added up before they go to a second level, which bounds rounding

// Rows are what threads share out: planes, or blocks of channels of one sample.
inline int64_t blocks(const Shape& z) { return (z.c + BLOCK - 1) / BLOCK; }
inline int64_t rows(const Shape& z) { return z.last ? z.n * blocks(z) : z.n * z.c; }

template <class F>
inline void reduce_plane(int64_t p, F term, float& first, float& second) {
    V a = {}, b = {};
    int64_t stretch = STRETCH * LANES;
    for (int64_t start = 0; start < p; start += stretch) {
        V s = {}, q = {};
        in_lanes(p - start < stretch ? p - start : stretch, [&](int64_t i, int64_t count) { term(start + i, count, s, q); });
        a += s;
        b += q;
    }
    first = total(a);
    second = total(b);
}

template <int64_t COUNT, class F>
inline void reduce_vectors(int64_t c, int64_t p, int64_t begin, int64_t lanes, F term, V* first, V* second) {
    V a[COUNT] = {}, b[COUNT] = {};
    for (int64_t start = 0; start < p; start += STRETCH) {
        int64_t stop = start + STRETCH < p ? start + STRETCH : p;
        V s[COUNT] = {}, q[COUNT] = {};
        for (int64_t i = start; i < stop; ++i)
            for (int64_t k = 0; k < COUNT; ++k) term(i * c + begin + k * LANES, begin + k * LANES, lanes, s[k], q[k]);
        for (int64_t k = 0; k < COUNT; ++k) { a[k] += s[k]; b[k] += q[k]; }
    }
    for (int64_t k = 0; k < COUNT; ++k) { first[k] = a[k]; second[k] = b[k]; }
}

// Call term(index, channel, count, s, q) for the pixels of a block of channels, then done(channel, count, s, q).
template <class F, class G>
inline void reduce_pixels(const Shape& z, int64_t block, F term, G done) {
    int64_t begin = block * BLOCK, stop = begin + BLOCK < z.c ? begin + BLOCK : z.c;
    V s[VECTORS], q[VECTORS];
    if (stop - begin == BLOCK) {
        reduce_vectors<VECTORS>(z.c, z.p, begin, LANES, term, s, q);
        for (int64_t k = 0; k < VECTORS; ++k) done(begin + k * LANES, LANES, s[k], q[k]);
        return;
    }
    for (; begin < stop; begin += LANES) {
        int64_t count = stop - begin < LANES ? stop - begin : LANES;
        if (count == LANES) reduce_vectors<1>(z.c, z.p, begin, LANES, term, s, q);
        else reduce_vectors<1>(z.c, z.p, begin, count, term, s, q);
        done(begin, count, s[0], q[0]);
    }
}

// Mean and mean squared deviation of each channel of each sample. Deviations are taken from the channel's first pixel,
// so that a large mean does not cancel the variance away.
template <class T>
void moments_row(const Shape& z, const T* x, int64_t row, float* mean, float* var) {
    if (!z.last) {
        const T* at = x + row * z.p;
        float origin = load(at, 1)[0], s, q;
        V shift = origin - V{};
        reduce_plane(z.p, [=](int64_t i, int64_t count, V& s, V& q) {
            V d = load(at + i, count) - shift;
            if (count < LANES) d = fetch<V>(&d, 4 * count);  // lanes beyond the end hold no number
            s += d;
            q += d * d;
        }, s, q);
        float d = s / z.p;
        mean[row] = origin + d;
        var[row] = std::fmax(q / z.p - d * d, 0.f);
        return;
    }
    int64_t n = row / blocks(z);
    const T* at = x + n * z.p * z.c;
    V share = 1.f / z.p - V{};
    reduce_pixels(z, row % blocks(z), [=](int64_t i, int64_t k, int64_t count, V& s, V& q) {
        V d = load(at + i, count) - load(at + k, count);
        s += d;
        q += d * d;
    }, [=](int64_t k, int64_t count, V s, V q) {
        V d = s * share, v = q * share - d * d;
        store(mean + n * z.c + k, load(at + k, count) + d, count);
        store(var + n * z.c + k, both(v, (V)(v > 0)), count);
    });
}

// For each channel of a row: the sum of f over the pixels, times scale.
template <class F>
inline void sum_row(const Shape& z, int64_t row, float scale, float* sum, F f) {
    if (!z.last) {
        float s, q;
        reduce_plane(z.p, [=](int64_t i, int64_t count, V& s, V&) { s += f(row * z.p + i, count); }, s, q);
        sum[row] = s * scale;
        return;
    }
    int64_t n = row / blocks(z), from = n * z.p * z.c;
    reduce_pixels(z, row % blocks(z), [=](int64_t i, int64_t, int64_t count, V& s, V&) { s += f(from + i, count); },
                  [=](int64_t k, int64_t count, V s, V) { store(sum + n * z.c + k, s * scale, count); });
}

// --- maps over the numbers of one row ---------------------------------------------------------------------------------------

// In channels_last a row is a run of whole pixels.
constexpr int64_t PIXELS = 64;
inline int64_t map_rows(const Shape& z) { return z.last ? z.n * ((z.p + PIXELS - 1) / PIXELS) : z.n * z.c; }

// Coefficients of one vector: those of one channel in every lane, or of sixteen channels.
struct Channels {
    int64_t at;
    bool last;
    int64_t count;
    inline V operator[](const float* of) const { return last ? load(of + at, count) : of[at] - V{}; }
};

// Call f(index, count, channels) for every vector of a row.
template <class F>
inline void map_row(const Shape& z, int64_t row, F f) {
    if (!z.last) {
        in_lanes(z.p, [=](int64_t i, int64_t count) { f(row * z.p + i, count, Channels{row, false, count}); });
        return;
    }
    int64_t parts = (z.p + PIXELS - 1) / PIXELS, n = row / parts, first = row % parts * PIXELS;
    int64_t stop = first + PIXELS < z.p ? first + PIXELS : z.p;
    for (int64_t i = first; i < stop; ++i)
        in_lanes(z.c, [=](int64_t k, int64_t count) { f((n * z.p + i) * z.c + k, count, Channels{n * z.c + k, true, count}); });
}

// --- the excitation: two small products ------------------------------------------------------------------------------------

void transpose(const Team& team, const float* from, float* to, int64_t height, int64_t width) {
    team.share(width, [=](int64_t j) {
        for (int64_t i = 0; i < height; ++i) to[j * height + i] = from[i * width + j];
    });
}

inline float dot(const float* a, const float* b, int64_t size) {
    V sums[VECTORS] = {};
    int64_t i = 0;
    for (; i + BLOCK <= size; i += BLOCK)
        for (int64_t k = 0; k < VECTORS; ++k) sums[k] += load(a + i + k * LANES, LANES) * load(b + i + k * LANES, LANES);
    in_lanes(size - i, [&](int64_t k, int64_t count) { sums[0] += load(a + i + k, count) * load(b + i + k, count); });
    return total((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// sum[k] = start[k] + sum over j < terms of factor[j * step] * rows[j * stride + k], for k < size; start may be null.
inline void combine(const float* start, const float* factor, int64_t step, const float* rows, int64_t stride, int64_t terms,
                    float* sum, int64_t size) {
    int64_t k = 0;
    for (; k + BLOCK <= size; k += BLOCK) {
        V s[VECTORS] = {};
        if (start)
            for (int64_t i = 0; i < VECTORS; ++i) s[i] = load(start + k + i * LANES, LANES);
        for (int64_t j = 0; j < terms; ++j) {
            V of = factor[j * step] - V{};
            for (int64_t i = 0; i < VECTORS; ++i) s[i] += of * load(rows + j * stride + k + i * LANES, LANES);
        }
        for (int64_t i = 0; i < VECTORS; ++i) store(sum + k + i * LANES, s[i], LANES);
    }
    in_lanes(size - k, [=](int64_t i, int64_t count) {
        V s = {};
        if (start) s = load(start + k + i, count);
        for (int64_t j = 0; j < terms; ++j) s += factor[j * step] * load(rows + j * stride + k + i, count);
        store(sum + k + i, s, count);
    });
}

// The second weight comes as C x hidden, and is transposed before it is used. The biases may be null.
struct Excitation {
    const float *reduce, *expand, *reduce_bias, *expand_bias;
    int64_t hidden;
    bool silu, hard;  // instead of ReLU, and instead of the logistic sigmoid
    Excitation with(const float* transposed) const { return {reduce, transposed, reduce_bias, expand_bias, hidden, silu, hard}; }
};

// How much a kernel has to do: passes over a map, and products of a weight with the batch.
inline int64_t work(const Shape& z, const Excitation& e, int64_t passes, int64_t products) {
    return z.n * z.c * (passes * z.p + products * e.hidden);
}

// Gives hidden values and gate of one sample from its squeeze z; into dh, where it is given, what dh/d(before) is.
void excite_sample(const Excitation& e, int64_t c, const float* z, float* h, float* gate, float* dh = nullptr) {
    for (int64_t j = 0; j < e.hidden; ++j) h[j] = dot(e.reduce + j * c, z, c) + (e.reduce_bias ? e.reduce_bias[j] : 0.f);
    in_lanes(e.hidden, [=](int64_t j, int64_t count) {
        V before = load(h + j, count), s = sigmoid(before);
        V after = e.silu ? before * s : rectify(before);
        if (dh) store(dh + j, e.silu ? s * (1 + before * (1 - s)) : both(1.f - V{}, (V)(~(U)(before <= 0))), count);
        store(h + j, after, count);
    });
    combine(e.expand_bias, h, 1, e.expand, c, e.hidden, gate, c);
    in_lanes(c, [=](int64_t k, int64_t count) {
        V before = load(gate + k, count);
        V soft = e.hard ? clamp_to_one(before / 6.f + 0.5f) : sigmoid(before);
        store(gate + k, soft, count);
    });
}

// From the gradient of the gate to that of the squeeze; leaves the gradients before both activations in de and dh. In
// dh comes what excite_sample left there, or nothing where slopes is null: ReLU's slope is known from h.
void excite_sample_backward(const Excitation& e, int64_t c, const float* gate, const float* h, const float* slopes, const float* dgate,
                            float* de, float* dh, float* dz) {
    in_lanes(c, [=](int64_t k, int64_t count) {
        V g = load(gate + k, count);
        V slope = e.hard ? both(1.f / 6 - V{}, (V)((U)(g > 0) & (U)(g < 1))) : g * (1 - g);
        store(de + k, load(dgate + k, count) * slope, count);
    });
    for (int64_t j = 0; j < e.hidden; ++j) {
        float slope = slopes ? slopes[j] : float(!(h[j] <= 0));
        dh[j] = slope == 0 ? 0 : slope * dot(de, e.expand + j * c, c);
    }
    combine(nullptr, dh, 1, e.reduce, c, e.hidden, dz, c);
}

// dreduce = dh^T z and dexpand = de^T h, summed over the samples.
void weight_gradients(const Team& team, int64_t n, int64_t c, int64_t hidden, const float* z, const float* h, const float* de, const float* dh,
                      float* dreduce, float* dexpand, float* scratch) {
    team.share(hidden, [=](int64_t j) {
        combine(nullptr, dh + j, hidden, z, c, n, dreduce + j * c, c);
        combine(nullptr, h + j, hidden, de, c, n, scratch + j * c, c);
    });
    team.meet();
    transpose(team, scratch, dexpand, hidden, c);
}

// Do the work of each sample in one thread, so that its second pass finds it in cache; with fewer samples than threads,
// share out rows instead.
template <class Rows, class Small, class Map>
inline void by_sample(const Team& team, const Shape& z, Rows reduce, Small small, Map map) {
    int64_t reductions = rows(z) / z.n, maps = map_rows(z) / z.n;
    team.meet();  // what was prepared before is there
    if (z.n >= team.threads) {
        team.share(z.n, [=](int64_t n) {
            for (int64_t row = 0; row < reductions; ++row) reduce(n * reductions + row);
            small(n);
            for (int64_t row = maps; row-- > 0;) map(n * maps + row);  // backwards: what was read last is nearest
        });
        return;
    }
    team.share(rows(z), [=](int64_t row) { reduce(row); });
    team.meet();
    team.share(z.n, [=](int64_t n) { small(n); });
    team.meet();
    team.share(map_rows(z), [=](int64_t row) { map(row); });
}

// --- SE alone -----------------------------------------------------------------------------------------------------------------

template <class T>
void se_forward(Shape z, const T* x, Excitation e, T* out, float* squeezed, float* h, float* slopes, float* gate, float* scratch) {
    Excitation t = e.with(scratch);
    in_parallel(work(z, e, 3, 2), z.threads, [=](const Team& team) {
        transpose(team, e.expand, scratch, z.c, e.hidden);
        by_sample(team, z,
            [=](int64_t row) { sum_row(z, row, 1.f / z.p, squeezed, [=](int64_t i, int64_t count) { return load(x + i, count); }); },
            [=](int64_t n) { excite_sample(t, z.c, squeezed + n * z.c, h + n * e.hidden, gate + n * z.c, slopes + n * e.hidden); },
            [=](int64_t row) {
                map_row(z, row, [=](int64_t i, int64_t count, Channels of) { store(out + i, load(x + i, count) * of[gate], count); });
            });
    });
}

template <class T>
void se_backward(Shape z, const T* x, const T* grad, Excitation e, const float* squeezed, const float* h, const float* slopes,
                 const float* gate, T* dx, float* dreduce, float* dexpand, float* dh, float* de, float* scratch) {
    int64_t nc = z.n * z.c, hc = e.hidden * z.c;
    float *dgate = scratch, *dz = dgate + nc, *expand = dz + nc, *products = expand + hc;
    Excitation t = e.with(expand);
    float share = 1.f / z.p;
    in_parallel(work(z, e, 5, 6), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        by_sample(team, z,
            [=](int64_t row) {
                sum_row(z, row, 1.f, dgate, [=](int64_t i, int64_t count) { return load(x + i, count) * load(grad + i, count); });
            },
            [=](int64_t n) {
                excite_sample_backward(t, z.c, gate + n * z.c, h + n * e.hidden, slopes + n * e.hidden, dgate + n * z.c,
                                       de + n * z.c, dh + n * e.hidden, dz + n * z.c);
            },
            [=](int64_t row) {
                map_row(z, row, [=](int64_t i, int64_t count, Channels of) {
                    store(dx + i, load(grad + i, count) * of[gate] + of[dz] * share, count);
                });
            });
        team.meet();
        weight_gradients(team, z.n, z.c, e.hidden, squeezed, h, de, dh, dreduce, dexpand, products);
    });
}

// --- the tail: relu(se(batch_norm(x)) + shortcut) ------------------------------------------------------------------------------

struct Norm { const float *weight, *bias; float eps; };

inline V root(V value) {
    for (int64_t i = 0; i < LANES; ++i) value[i] = std::sqrt(value[i]);
    return value;
}
inline int64_t channel_rows(const Shape& z) { return (z.c + LANES - 1) / LANES; }
inline int64_t channels_of(const Shape& z, int64_t row) {
    return z.c - row * LANES < LANES ? z.c - row * LANES : LANES;
}

// The batch's mean and variance of each channel from those of the samples (algebra.py, batch_moments).
inline void batch_moments(const Shape& z, int64_t row, const float* mean, const float* var, float* mu, float* variance) {
    int64_t k = row * LANES, count = channels_of(z, row);
    V m = {}, within = {}, between = {}, share = 1.f / z.n - V{};
    for (int64_t n = 0; n < z.n; ++n) { m += load(mean + n * z.c + k, count); within += load(var + n * z.c + k, count); }
    m *= share;
    for (int64_t n = 0; n < z.n; ++n) { V d = load(mean + n * z.c + k, count) - m; between += d * d; }
    store(mu + k, m, count);
    store(variance + k, (within + between) * share, count);
}

// What BatchNorm remembers: moved towards the batch's mean and unbiased variance by `momentum`; null where it does not.
struct Running { float *mean, *variance; float momentum; };

inline void remember(const Shape& z, int64_t row, const Running& running, const float* mu, const float* variance) {
    int64_t k = row * LANES, count = channels_of(z, row);
    V share = running.momentum - V{}, unbiased = float(double(z.n) * z.p / (double(z.n) * z.p - 1)) - V{};
    V m = load(running.mean + k, count), v = load(running.variance + k, count);
    store(running.mean + k, m * (1 - share) + load(mu + k, count) * share, count);
    store(running.variance + k, v * (1 - share) + load(variance + k, count) * unbiased * share, count);
}

template <class T>
void tail_forward(Shape z, const T* x, const T* shortcut, Norm norm, Running running, Excitation e, T* out, uint8_t* mask,
                  float* mean, float* mu, float* variance, float* squeezed, float* h, float* gate, float* scratch) {
    float *slope = scratch, *offset = slope + z.n * z.c, *expand = offset + z.n * z.c;
    Excitation t = e.with(expand);
    auto write = [=](int64_t i, int64_t count, Channels of) {
        V y = load(x + i, count) * of[slope] + of[offset] + load(shortcut + i, count);
        store_mask(mask + i, (U)(y > 0), count);
        store(out + i, rectify(y), count);
    };
    in_parallel(work(z, e, 4, 2), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        team.share(rows(z), [=](int64_t row) { moments_row(z, x, row, mean, offset); });
        team.meet();
        team.share(channel_rows(z), [=](int64_t row) {
            batch_moments(z, row, mean, offset, mu, variance);
            if (running.mean) remember(z, row, running, mu, variance);
        });
        team.meet();
        team.share(z.n, [=](int64_t n) {
            float *to = squeezed + n * z.c, *s = gate + n * z.c, *a = slope + n * z.c, *d = offset + n * z.c, *m = mean + n * z.c;
            in_lanes(z.c, [=](int64_t k, int64_t count) {
                V of = load(norm.weight + k, count) / root(load(variance + k, count) + norm.eps);
                store(a + k, of, count);
                store(to + k, (load(m + k, count) - load(mu + k, count)) * of + load(norm.bias + k, count), count);
            });
            excite_sample(t, z.c, to, h + n * e.hidden, s);
            in_lanes(z.c, [=](int64_t k, int64_t count) {
                V of = load(a + k, count), gated = load(s + k, count);
                store(d + k, (load(norm.bias + k, count) - load(mu + k, count) * of) * gated, count);
                store(a + k, of * gated, count);
            });
        });
        team.meet();
        // Backwards, because what was read last is still in cache.
        team.share(map_rows(z), [=](int64_t row) { map_row(z, map_rows(z) - 1 - row, write); });
    });
}

// Write the gradient of the shortcut, p = grad where out > 0, and take sum p and sum p (x - mu) of each channel and sample.
template <class T>
void gate_sums_row(const Shape& z, const T* x, const T* grad, const uint8_t* mask, const float* mu, int64_t row, T* dshortcut,
                   float* s1, float* s2) {
    auto term = [=](int64_t i, int64_t count, V centre, V& s, V& q) {
        V p = both(load(grad + i, count), load_mask(mask + i, count));
        store(dshortcut + i, p, count);
        s += p;
        q += p * (load(x + i, count) - centre);
    };
    if (!z.last) {
        V centre = mu[row % z.c] - V{};
        reduce_plane(z.p, [=](int64_t i, int64_t count, V& s, V& q) { term(row * z.p + i, count, centre, s, q); }, s1[row], s2[row]);
        return;
    }
    int64_t n = row / blocks(z), from = n * z.p * z.c;
    reduce_pixels(z, row % blocks(z),
                  [=](int64_t i, int64_t k, int64_t count, V& s, V& q) { term(from + i, count, load(mu + k, count), s, q); },
                  [=](int64_t k, int64_t count, V s, V q) { store(s1 + n * z.c + k, s, count); store(s2 + n * z.c + k, q, count); });
}

template <class T>
void tail_backward(Shape z, const T* x, const T* grad, const uint8_t* mask, Norm norm, Excitation e, const float* mean,
                   const float* mu, const float* variance, const float* squeezed, const float* h, const float* gate, T* dx,
                   T* dshortcut, float* dweight, float* dbias, float* dreduce, float* dexpand, float* scratch) {
    int64_t nc = z.n * z.c, hc = e.hidden * z.c;
    float *s1 = scratch, *s2 = s1 + nc, *dgate = s2 + nc, *de = dgate + nc, *dz = de + nc, *of_x = dz + nc;
    float *dh = of_x + nc, *expand = dh + z.n * e.hidden, *products = expand + hc;
    float *slope = s1, *offset = s2;  // their sums are used up when these are written
    Excitation t = e.with(expand);
    V count_inverse = float(1 / (double(z.n) * z.p)) - V{}, share = 1.f / z.p - V{};
    auto write = [=](int64_t i, int64_t count, Channels of) {
        store(dx + i, load(dshortcut + i, count) * of[slope] + load(x + i, count) * of[of_x] + of[offset], count);
    };
    in_parallel(work(z, e, 7, 6), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        team.share(rows(z), [=](int64_t row) { gate_sums_row(z, x, grad, mask, mu, row, dshortcut, s1, s2); });
        team.meet();
        team.share(z.n, [=](int64_t n) {
            int64_t at = n * z.c;
            in_lanes(z.c, [=](int64_t k, int64_t count) {
                V a = load(norm.weight + k, count) / root(load(variance + k, count) + norm.eps);
                V sum = a * load(s2 + at + k, count) + load(norm.bias + k, count) * load(s1 + at + k, count);
                store(dgate + at + k, sum, count);
            });
            excite_sample_backward(t, z.c, gate + at, h + n * e.hidden, nullptr, dgate + at, de + at, dh + n * e.hidden, dz + at);
        });
        team.meet();
        team.share(channel_rows(z), [=](int64_t row) {
            int64_t k = row * LANES, count = channels_of(z, row);
            V inverse = 1 / root(load(variance + k, count) + norm.eps), of_bias = {}, of_weight = {}, centre = load(mu + k, count);
            for (int64_t i = k; i < nc; i += z.c) {
                V s = load(gate + i, count), squeeze = load(dz + i, count);
                of_bias += s * load(s1 + i, count) + squeeze;
                of_weight += s * load(s2 + i, count) + squeeze * (load(mean + i, count) - centre);
            }
            of_weight *= inverse;
            store(dbias + k, of_bias, count);
            store(dweight + k, of_weight, count);
            V a = load(norm.weight + k, count) * inverse, b = -a * inverse * of_weight * count_inverse;
            for (int64_t i = k; i < nc; i += z.c) {
                V constant = a * (load(dz + i, count) * share - of_bias * count_inverse) - b * centre;
                store(slope + i, a * load(gate + i, count), count);
                store(of_x + i, b, count);
                store(offset + i, constant, count);
            }
        });
        team.meet();
        team.share(map_rows(z), [=](int64_t row) { map_row(z, map_rows(z) - 1 - row, write); });
        weight_gradients(team, z.n, z.c, e.hidden, squeezed, h, de, dh, dreduce, dexpand, products);
    });
}

// In inference BatchNorm is x a[c] + d[c], and the squeeze is a[c] mean(x) + d[c].
struct Frozen { const float *weight, *bias, *mean, *variance; float eps; };

// From the means of one sample's map to what the tail does to it: times scale, plus shift. The gate is left in scale first.
inline void scale_sample(const Frozen& norm, const Excitation& e, int64_t c, const float* known, float* squeezed, float* h, float* scale,
                         float* shift) {
    const float* means = known ? known : squeezed;
    auto slope = [=](int64_t k, int64_t count) {
        return load(norm.weight + k, count) / root(load(norm.variance + k, count) + norm.eps);
    };
    in_lanes(c, [=](int64_t k, int64_t count) {
        V a = slope(k, count), d = load(norm.bias + k, count) - load(norm.mean + k, count) * a;
        store(shift + k, d, count);
        store(squeezed + k, load(means + k, count) * a + d, count);
    });
    excite_sample(e, c, squeezed, h, scale);
    in_lanes(c, [=](int64_t k, int64_t count) {
        V s = load(scale + k, count);
        store(shift + k, load(shift + k, count) * s, count);
        store(scale + k, slope(k, count) * s, count);
    });
}

// Means of the map of one row, or nothing where they are known.
template <class T>
inline void squeeze_row(const Shape& z, const T* x, const float* known, int64_t row, float* squeezed) {
    if (!known) sum_row(z, row, 1.f / z.p, squeezed, [=](int64_t i, int64_t count) { return load(x + i, count); });
}

// Scale and shift alone, for a compiler that does the rest in its own kernels.
template <class T>
void tail_scaling(Shape z, const T* x, const float* known, Frozen norm, Excitation e, float* scale, float* shift, float* scratch) {
    float *squeezed = scratch, *h = squeezed + z.n * z.c, *expand = h + z.n * e.hidden;
    Excitation t = e.with(expand);
    in_parallel(work(z, e, 1, 2), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        by_sample(team, z,
            [=](int64_t row) { squeeze_row(z, x, known, row, squeezed); },
            [=](int64_t n) { scale_sample(norm, t, z.c, known ? known + n * z.c : nullptr, squeezed + n * z.c, h + n * e.hidden, scale + n * z.c, shift + n * z.c); },
            [](int64_t) {});
    });
}

template <class T>
void tail_inference(Shape z, const T* x, const T* shortcut, const float* known, Frozen norm, Excitation e, T* out, float* scratch) {
    int64_t nc = z.n * z.c;
    float *squeezed = scratch, *scale = squeezed + nc, *shift = scale + nc, *h = shift + nc, *expand = h + z.n * e.hidden;
    Excitation t = e.with(expand);
    in_parallel(work(z, e, 4, 2), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        by_sample(team, z,
            [=](int64_t row) { squeeze_row(z, x, known, row, squeezed); },
            [=](int64_t n) { scale_sample(norm, t, z.c, known ? known + n * z.c : nullptr, squeezed + n * z.c, h + n * e.hidden, scale + n * z.c, shift + n * z.c); },
            [=](int64_t row) {
                map_row(z, row, [=](int64_t i, int64_t count, Channels of) {
                    V y = load(x + i, count) * of[scale] + of[shift] + load(shortcut + i, count);
                    store(out + i, rectify(y), count);
                });
            });
    });
}

// --- relu(batch_norm(x)) in inference, with the sums from which the squeeze of the next convolution follows ----------------

// From the sum of a plane to what each tap of a padded 3x3 convolution sees of it: a tap that looks up never sees the last
// row, one that looks down not the first, and so for columns. at(y, x) gives numbers of the plane.
template <class Value, class At, class Put>
inline void window_sums(Value total, int64_t height, int64_t width, At at, Put put) {
    Value top{}, bottom{}, left{}, right{};
    for (int64_t x = 0; x < width; ++x) { top += at(0, x); bottom += at(height - 1, x); }
    for (int64_t y = 0; y < height; ++y) { left += at(y, 0); right += at(y, width - 1); }
    Value rows[3] = {bottom, Value{}, top}, columns[3] = {right, Value{}, left};
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
            Value seen = total - rows[i] - columns[j];
            if (i != 1 && j != 1) seen += at(i == 0 ? height - 1 : 0, j == 0 ? width - 1 : 0);
            put(i * 3 + j, seen);
        }
}

template <class T>
void rectified_norm(Shape z, int64_t width, const T* x, Frozen norm, T* out, float* sums) {
    int64_t height = z.p / width;
    auto term = [=](int64_t i, int64_t count, V a, V d) {
        store(out + i, rectify(load(x + i, count) * a + d), count);
        return load(out + i, count);  // as it was rounded
    };
    in_parallel(3 * z.n * z.c * z.p, z.threads, [=](const Team& team) {
        team.share(rows(z), [=](int64_t row) {
            if (!z.last) {
                int64_t c = row % z.c;
                V a = norm.weight[c] / std::sqrt(norm.variance[c] + norm.eps) - V{}, d = norm.bias[c] - norm.mean[c] * a;
                float total, none;
                reduce_plane(z.p, [=](int64_t i, int64_t count, V& s, V&) { s += term(row * z.p + i, count, a, d); }, total, none);
                window_sums(total, height, width, [=](int64_t i, int64_t j) { return load(out + row * z.p + i * width + j, 1)[0]; },
                            [=](int tap, float seen) { sums[row * 9 + tap] = seen; });
                return;
            }
            int64_t n = row / blocks(z), from = n * z.p * z.c;
            auto slope = [=](int64_t k, int64_t count) {
                return load(norm.weight + k, count) / root(load(norm.variance + k, count) + norm.eps);
            };
            float slopes[BLOCK], offsets[BLOCK];
            int64_t begin = row % blocks(z) * BLOCK;
            in_lanes(z.c - begin < BLOCK ? z.c - begin : BLOCK, [&](int64_t k, int64_t count) {
                V a = slope(begin + k, count);
                store(slopes + k, a, count);
                store(offsets + k, load(norm.bias + begin + k, count) - load(norm.mean + begin + k, count) * a, count);
            });
            reduce_pixels(z, row % blocks(z),
                [&](int64_t i, int64_t k, int64_t count, V& s, V&) {
                    s += term(from + i, count, load(slopes + k - begin, count), load(offsets + k - begin, count));
                },
                [=](int64_t k, int64_t count, V total, V) {
                    window_sums(total, height, width,
                        [=](int64_t i, int64_t j) { return load(out + from + (i * width + j) * z.c + k, count); },
                        [=](int tap, V seen) { for (int64_t l = 0; l < count; ++l) sums[(n * z.c + k + l) * 9 + tap] = seen[l]; });
                });
        });
    });
}

}  // namespace
