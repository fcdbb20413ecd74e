// Squeeze-and-Excitation alone, and the tail of a residual block (BatchNorm, SE, shortcut, ReLU), for the CPU.
//
// A map x is N x C x H x W, either contiguous (planes of P = H W numbers) or channels_last (P pixels of C numbers).
// Maps are read and written as rarely as the formulas of algebra.py allow. Work of size N x C is cheap, but not free if the
// maps are small, so it is vectorized, too.
// The kernels take pointers and sizes; operators.cpp handles tensors.
#pragma once
#include <atomic>
#include <chrono>
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

// Numbers read, written or multiplied below which waking a sleeping second thread (about 45 us) costs more than it saves.
// Measured on two cores, where one and two threads took the same time at 0.8 to 2 million numbers.
constexpr int64_t WORTH_SHARING = 1 << 20;
constexpr int SPINS = 2000;                 // polls of a shared counter before a thread yields its processor
constexpr int YIELDS = 4000;                // yields before the thread sleeps: some milliseconds
constexpr std::chrono::microseconds NAP{50};

// A barrier. With OMP_WAIT_POLICY=PASSIVE, which keeps a busy machine usable, a barrier of OpenMP sleeps in the operating
// system. With about six barriers a call, that took longer than all the work on a small map.
// A waiting thread spins, then yields, then sleeps: if there are more threads than free processors, the threads that have
// not arrived need its processor. The counters are in separate cache lines, so that arriving threads do not invalidate the
// line that all others poll.
class Barrier {
  public:
    void wait(int threads) {
        int round = round_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(round + 1, std::memory_order_release);
            return;
        }
        for (int polls = 0; round_.load(std::memory_order_acquire) == round; ++polls) {
            if (polls > SPINS + YIELDS) {
                polls = SPINS + YIELDS;
                std::this_thread::sleep_for(NAP);
            } else if (polls > SPINS) {
                std::this_thread::yield();
            }
        }
    }

  private:
    static constexpr size_t LINE = 64;
    alignas(LINE) std::atomic<int> arrived_{0};
    alignas(LINE) std::atomic<int> round_{0};
};

// Order stores that bypass the cache before later stores.
inline void finish_stores() {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    _mm_sfence();
#endif
}

struct Team {
    Barrier* barrier;
    int thread, threads;
    template <class F>
    inline void share(int64_t count, F f) const {  // a thread always gets the same part, which may be in its cache
        for (int64_t i = count * thread / threads; i < count * (thread + 1) / threads; ++i) f(i);
    }
    // Call f(first, count) with a constant count of 4, and of 1 for the rest, so that weights are read once for four samples.
    template <class F>
    inline void share_in_fours(int64_t count, F f) const {
        int64_t i = count * thread / threads, stop = count * (thread + 1) / threads;
        for (; i + 4 <= stop; i += 4) f(i, std::integral_constant<int64_t, 4>());
        for (; i < stop; ++i) f(i, std::integral_constant<int64_t, 1>());
    }
    inline void synchronize() const {
        finish_stores();
        if (threads > 1) barrier->wait(threads);
    }
};

// Flattened, because otherwise the compiler does not inline all operations on vectors, and a map of 32x512x4x4 takes twice the
// time.
template <class F>
__attribute__((flatten)) void run(F& body, const Team& team) {
    body(team);
    finish_stores();
}

template <class F>
inline void in_parallel(int64_t work, int threads, F body) {
    Barrier barrier;
#pragma omp parallel num_threads(threads) if (work >= WORTH_SHARING)
    run(body, Team{&barrier, omp_get_thread_num(), omp_get_num_threads()});
}

// --- vectors of sixteen numbers, computed in fp32 and stored in any dtype ------------------------------------------------

constexpr int64_t LANES = 16;
typedef float V __attribute__((vector_size(64)));
typedef uint32_t U __attribute__((vector_size(64)));
typedef uint16_t Half __attribute__((vector_size(32)));
typedef uint8_t Byte __attribute__((vector_size(16)));
struct bf16 { uint16_t bits; };

// Load or store the first bytes of a vector; loads set the others to 0. A copy of a size that is unknown at compile time is a
// function call, which on planes of 7 x 7 took longer than all other work; AVX-512 has instructions for it.
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

// Stores of whole vectors that bypass the cache.
#if defined(__AVX512BW__) && defined(__AVX512VL__)
inline void put_around(void* to, __m512i value) { _mm512_stream_si512(static_cast<__m512i*>(to), value); }
inline void put_around(void* to, __m256i value) { _mm256_stream_si256(static_cast<__m256i*>(to), value); }
inline void put_around(void* to, __m128i value) { _mm_stream_si128(static_cast<__m128i*>(to), value); }
#endif

template <class T>
inline T fetch(const void* from, int64_t bytes) {
    if (bytes != int64_t(sizeof(T))) return fetch_first<T>(from, bytes);
    T value;
    std::memcpy(&value, from, sizeof(T));
    return value;
}
template <class T>
inline void put(void* to, const T& value, int64_t bytes, bool around = false) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    if (around && bytes == int64_t(sizeof(T)) && (uintptr_t(to) & (sizeof(T) - 1)) == 0) return put_around(to, (Raw<T>)value);
#endif
    if (bytes == int64_t(sizeof(T))) std::memcpy(to, &value, sizeof(T));
    else put_first(to, value, bytes);
}

inline V load(const float* p, int64_t count) { return fetch<V>(p, 4 * count); }
// GCC 12 compiles the conversion of bytes into about eighty instructions, and that of 16-bit numbers into five.
#if defined(__AVX512BW__) && defined(__AVX512VL__)
inline U widened(Byte value) { return (U)_mm512_cvtepu8_epi32((__m128i)value); }
inline U widened(Half value) { return (U)_mm512_cvtepu16_epi32((__m256i)value); }
#else
inline U widened(Byte value) { return __builtin_convertvector(value, U); }
inline U widened(Half value) { return __builtin_convertvector(value, U); }
#endif
inline V load(const bf16* p, int64_t count) { return (V)(widened(fetch<Half>(p, 2 * count)) << 16); }
inline void store(float* p, V value, int64_t count, bool around = false) { put(p, value, 4 * count, around); }
inline void store(bf16* p, V value, int64_t count, bool around = false) {  // round to nearest, ties to even; a NaN stays one
    U wide = (U)value, rounded = (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16;
    U nan = (U)(value != value);
    put(p, __builtin_convertvector((rounded & ~nan) | (nan & 0x7FC0), Half), 2 * count, around);
}
inline V load_mask(const uint8_t* p, int64_t count) {  // all bits of a lane, or none
    return (V)(-widened(fetch<Byte>(p, count)));
}
inline void store_mask(uint8_t* p, U all_bits, int64_t count, bool around = false) { put(p, __builtin_convertvector(all_bits & 1, Byte), count, around); }
inline V both(V value, V mask) { return (V)((U)value & (U)mask); }
inline V rectify(V y) { return both(y, (V)(~(U)(y <= 0))); }  // a NaN stays one
inline V clamp_to_one(V y) {  // to 0 and 1; a NaN stays one
    U above = (U)(y > 1);
    return rectify((V)(((U)y & ~above) | ((U)(1.f - V{}) & above)));
}

// Sixteen vectors as a square of 16 x 16 numbers, processed by halves: a lane whose index has the bit BY is in the second half.
template <int64_t BY>
inline V chosen(V first, V second, bool from_upper) {
    U which;
    for (int64_t i = 0; i < LANES; ++i) which[i] = uint32_t((from_upper ? i | BY : i & ~BY) + (i & BY ? LANES : 0));
    return __builtin_shuffle(first, second, which);
}
template <int64_t BY>
inline V merged(V first, V second) { return chosen<BY>(first, second, false) + chosen<BY>(first, second, true); }
template <int64_t BY>
inline void merge(V* v) {
    for (int64_t i = 0; i < BY; ++i) v[i] = merged<BY>(v[i], v[i + BY]);
}
// The sums of sixteen vectors in the lanes of one, with a quarter of the work of summing them one by one.
inline V totals(V* v) {
    merge<8>(v);
    merge<4>(v);
    merge<2>(v);
    merge<1>(v);
    return v[0];
}
template <int64_t BY>
inline void swap_halves(V* v) {
    for (int64_t i = 0; i < LANES; ++i)
        if (!(i & BY)) {
            V first = v[i], second = v[i + BY];
            v[i] = chosen<BY>(first, second, false);
            v[i + BY] = chosen<BY>(first, second, true);
        }
}
inline void transpose_square(V* v) {
    swap_halves<8>(v);
    swap_halves<4>(v);
    swap_halves<2>(v);
    swap_halves<1>(v);
}

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
inline V sigmoid(V x) {  // keeps NaN, which the bounds of `exponential` would turn into a number
    V y = 1 / (1 + exponential(-x));
    return (V)(((U)y & ~(U)(x != x)) | ((U)x & (U)(x != x)));
}

// Call f(i, count) for i = 0, 16, ... below size; count is the constant 16 except for the last call.
template <class F>
inline void in_lanes(int64_t size, F f) {
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) f(i, LANES);
    if (i < size) f(i, size - i);
}

// Whether a map is so large that stores should bypass the cache, which otherwise reads each line before it is overwritten.
// Measured on training steps whose results were read again at once: 8 MiB took 10 to 12 % less time, 4 MiB the same time.
// A constant, because a virtual machine may report wrong cache sizes (320 MiB instead of 32).
inline bool exceeds_cache(int64_t bytes) { return bytes >= int64_t(8) << 20; }

struct Shape { int64_t n, c, p; bool last; int threads; bool around; };

// --- reductions over the pixels of one sample -----------------------------------------------------------------------------

constexpr int64_t VECTORS = 4;             // accumulators in registers
constexpr int64_t BLOCK = VECTORS * LANES; // channels of a row in channels_last
constexpr int64_t STRETCH = 512;           // terms of a partial sum, to bound rounding errors

// Coefficients for one vector: that of one channel in every lane, or those of sixteen channels.
struct Channels {
    int64_t at;
    bool last;
    int64_t count;
    inline V operator[](const float* of) const { return last ? load(of + at, count) : of[at] - V{}; }
};

// Rows are the unit of work of a thread: blocks of channels of one sample.
inline int64_t width_of(const Shape& z) { return z.last ? BLOCK : LANES; }
inline int64_t blocks(const Shape& z) { return (z.c + width_of(z) - 1) / width_of(z); }
inline int64_t rows(const Shape& z) { return z.n * blocks(z); }

struct Pair { V first, second; };
template <class F>
inline Pair reduce_vector(F term) {
    V s = {}, q = {};
    term(0, LANES, s, q);
    return {s, q};
}
template <class F>
inline Pair reduce_plane(int64_t p, F term) {
    constexpr int64_t LONG = STRETCH * LANES;
    V a = {}, b = {};
    int64_t i = 0;
    while (p - i > LONG) {
        V s = {}, q = {};
        for (int64_t stop = i + LONG; i < stop; i += LANES) term(i, LANES, s, q);
        a += s;
        b += q;
    }
    V s = {}, q = {};
    for (; i + LANES <= p; i += LANES) term(i, LANES, s, q);
    if (i < p) term(i, p - i, s, q);
    return {a + s, b + q};
}

template <int64_t COUNT, class F>
inline void reduce_vectors(int64_t c, int64_t p, int64_t begin, int64_t lanes, F term, V* first, V* second) {
    V a[COUNT] = {}, b[COUNT] = {};
    for (int64_t start = 0; start < p; start += STRETCH) {
        int64_t stop = start + STRETCH < p ? start + STRETCH : p;
        V s[COUNT] = {}, q[COUNT] = {};
        for (int64_t i = start; i < stop; ++i)
            for (int64_t k = 0; k < COUNT; ++k) term(i * c + begin + k * LANES, Channels{begin + k * LANES, true, lanes}, lanes, s[k], q[k]);
        for (int64_t k = 0; k < COUNT; ++k) { a[k] += s[k]; b[k] += q[k]; }
    }
    for (int64_t k = 0; k < COUNT; ++k) { first[k] = a[k]; second[k] = b[k]; }
}

template <class F, class G>
inline void reduce_pixels(const Shape& z, int64_t begin, int64_t stop, F term, G done) {
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

// Call term(index, channels, count, s, q) for all vectors of a row, where `channels` gives their coefficients; lanes beyond
// count must add nothing. Then call done(channel, count, s, q) for the channels of the row. Both number channels within the
// sample.
template <class F, class G>
inline void reduce_row(const Shape& z, int64_t row, F term, G done) {
    int64_t n = row / blocks(z), begin = row % blocks(z) * width_of(z), stop = begin + width_of(z) < z.c ? begin + width_of(z) : z.c;
    if (z.last) {
        int64_t from = n * z.p * z.c;
        reduce_pixels(z, begin, stop, [=](int64_t i, Channels of, int64_t count, V& s, V& q) { term(from + i, of, count, s, q); }, done);
        return;
    }
    V s[LANES], q[LANES];
    auto fill = [&](int64_t k, Pair sums) { s[k - begin] = sums.first, q[k - begin] = sums.second; };
    auto term_of = [=](int64_t k) {
        int64_t from = (n * z.c + k) * z.p;
        return [=](int64_t i, int64_t count, V& s, V& q) { term(from + i, Channels{k, false, count}, count, s, q); };
    };
    if (z.p == LANES)  // as in the last stage of a network for 32 x 32 images; without the inner loop it takes half the time
        for (int64_t k = begin; k < stop; ++k) fill(k, reduce_vector(term_of(k)));
    else
        for (int64_t k = begin; k < stop; ++k) fill(k, reduce_plane(z.p, term_of(k)));
    for (int64_t k = stop - begin; k < LANES; ++k) s[k] = q[k] = V{};
    done(begin, stop - begin, totals(s), totals(q));
}

// Set lanes beyond the end of a plane to 0.
inline V within(V value, int64_t count) { return count < LANES ? fetch<V>(&value, 4 * count) : value; }

// Mean and mean squared deviation of each channel of each sample. Deviations are taken from the channel's first pixel,
// so that a large mean does not cancel the variance away.
template <class T>
void moments_row(const Shape& z, const T* x, int64_t row, float* mean, float* var) {
    int64_t n = row / blocks(z), begin = row % blocks(z) * width_of(z), stop = begin + width_of(z) < z.c ? begin + width_of(z) : z.c;
    mean += n * z.c;
    var += n * z.c;
    for (int64_t k = begin; k < stop; ++k) mean[k] = load(x + n * z.c * z.p + (z.last ? k : k * z.p), 1)[0];
    V share = 1.f / z.p - V{};
    reduce_row(z, row, [=](int64_t i, Channels of, int64_t count, V& s, V& q) {
        V d = within(load(x + i, count) - of[mean], count);
        s += d;
        q += d * d;
    }, [=](int64_t k, int64_t count, V s, V q) {
        V d = s * share, v = q * share - d * d;
        store(mean + k, load(mean + k, count) + d, count);
        store(var + k, both(v, (V)(v > 0)), count);
    });
}

// Write the sum of f over the pixels, times scale, for each channel of a row.
template <class F>
inline void sum_row(const Shape& z, int64_t row, float scale, float* sum, F f) {
    int64_t n = row / blocks(z);
    reduce_row(z, row, [=](int64_t i, Channels, int64_t count, V& s, V&) { s += f(i, count); },
               [=](int64_t k, int64_t count, V s, V) { store(sum + n * z.c + k, s * scale, count); });
}

// --- maps over the numbers of one row ---------------------------------------------------------------------------------------

// A row is a run of whole pixels or planes, long enough that memory is read sequentially in any order of rows.
constexpr int64_t RUN = 1 << 13;
inline int64_t units(const Shape& z) { return z.last ? z.p : z.c; }
inline int64_t units_of_row(const Shape& z) { int64_t size = z.last ? z.c : z.p; return size < RUN ? RUN / size : 1; }
inline int64_t map_rows_of_sample(const Shape& z) { return (units(z) + units_of_row(z) - 1) / units_of_row(z); }
inline int64_t map_rows(const Shape& z) { return z.n * map_rows_of_sample(z); }

// Call f(index, count, channels) for every vector of a row.
template <class F>
inline void map_row(const Shape& z, int64_t row, F f) {
    int64_t n = row / map_rows_of_sample(z), begin = row % map_rows_of_sample(z) * units_of_row(z);
    int64_t stop = begin + units_of_row(z) < units(z) ? begin + units_of_row(z) : units(z);
    for (int64_t i = begin; i < stop; ++i) {
        int64_t at = n * z.c;
        if (z.last) in_lanes(z.c, [=](int64_t k, int64_t count) { f((n * z.p + i) * z.c + k, count, Channels{at + k, true, count}); });
        else in_lanes(z.p, [=](int64_t k, int64_t count) { f((at + i) * z.p + k, count, Channels{at + i, false, count}); });
    }
}

// --- the excitation: two small products ------------------------------------------------------------------------------------

void transpose(const Team& team, const float* from, float* to, int64_t height, int64_t width) {
    team.share((width + LANES - 1) / LANES, [=](int64_t block) {
        int64_t j = block * LANES;
        in_lanes(height, [=](int64_t i, int64_t count) {
            V square[LANES] = {};
            for (int64_t k = 0; k < count; ++k) square[k] = load(from + (i + k) * width + j, width - j < LANES ? width - j : LANES);
            transpose_square(square);
            for (int64_t k = 0; k < LANES && j + k < width; ++k) store(to + (j + k) * height + i, square[k], count);
        });
    });
}

// Sixteen dot products of SAMPLES rows of z with up to 16 / SAMPLES rows (`count`) of a weight. Lane s * (16 / SAMPLES) + j
// holds the product of sample s and row j.
template <int64_t SAMPLES>
inline V dots(const float* rows, int64_t count, const float* z, int64_t size) {
    constexpr int64_t ROWS = LANES / SAMPLES;
    V sums[LANES] = {};
    const float* at[ROWS];
    for (int64_t j = 0; j < ROWS; ++j) at[j] = rows + (j < count ? j : 0) * size;
    in_lanes(size, [&](int64_t k, int64_t width) {
        V of[SAMPLES];
        for (int64_t s = 0; s < SAMPLES; ++s) of[s] = load(z + s * size + k, width);
        for (int64_t j = 0; j < ROWS; ++j) {
            V weights = load(at[j] + k, width);
            for (int64_t s = 0; s < SAMPLES; ++s) sums[s * ROWS + j] += of[s] * weights;
        }
    });
    return totals(sums);
}

// Call f(s, j, product) for the dot product of each sample of z with each of the `height` rows of a weight.
template <int64_t SAMPLES, class F>
inline void multiply(const float* rows, int64_t height, const float* z, int64_t size, F f) {
    constexpr int64_t ROWS = LANES / SAMPLES;
    for (int64_t j = 0; j < height; j += ROWS) {
        int64_t count = height - j < ROWS ? height - j : ROWS;
        float products[LANES];
        store(products, dots<SAMPLES>(rows + j * size, count, z, size), LANES);
        for (int64_t s = 0; s < SAMPLES; ++s)
            for (int64_t l = 0; l < count; ++l) f(s, j + l, products[s * ROWS + l]);
    }
}

// sum[s, k] = start[k] + sum over j < terms of factor[s, j] * rows[j, k], for k < size; start may be null.
template <int64_t SAMPLES>
inline void combine(const float* start, const float* factor, const float* rows, int64_t terms, float* sum, int64_t size) {
    int64_t k = 0;
    for (; k + BLOCK <= size; k += BLOCK) {
        V sums[SAMPLES][VECTORS] = {};
        for (int64_t j = 0; j < terms; ++j)
            for (int64_t i = 0; i < VECTORS; ++i) {
                V weights = load(rows + j * size + k + i * LANES, LANES);
                for (int64_t s = 0; s < SAMPLES; ++s) sums[s][i] += factor[s * terms + j] * weights;
            }
        for (int64_t s = 0; s < SAMPLES; ++s)
            for (int64_t i = 0; i < VECTORS; ++i) {
                int64_t at = k + i * LANES;
                store(sum + s * size + at, start ? sums[s][i] + load(start + at, LANES) : sums[s][i], LANES);
            }
    }
    in_lanes(size - k, [=](int64_t i, int64_t count) {
        for (int64_t s = 0; s < SAMPLES; ++s) {
            V total = {};
            if (start) total = load(start + k + i, count);
            for (int64_t j = 0; j < terms; ++j) total += factor[s * terms + j] * load(rows + j * size + k + i, count);
            store(sum + s * size + k + i, total, count);
        }
    });
}

// The second weight is C x hidden and has to be transposed before use. The biases may be null.
struct Excitation {
    const float *reduce, *expand, *reduce_bias, *expand_bias;
    int64_t hidden;
    bool silu, hard;  // instead of ReLU, and instead of the logistic sigmoid
    Excitation with(const float* transposed) const { return {reduce, transposed, reduce_bias, expand_bias, hidden, silu, hard}; }
};

// Amount of work of a kernel: passes over a map, and products of a weight with the batch.
inline int64_t work(const Shape& z, const Excitation& e, int64_t passes, int64_t products) {
    return z.n * z.c * (passes * z.p + products * e.hidden);
}

// Compute hidden values and gate of samples from their squeezed means z, and the activation's derivative in dh, if not null.
template <int64_t SAMPLES>
void excite(const Excitation& e, int64_t c, const float* z, float* h, float* gate, float* dh = nullptr) {
    multiply<SAMPLES>(e.reduce, e.hidden, z, c, [=](int64_t s, int64_t j, float product) {
        h[s * e.hidden + j] = product + (e.reduce_bias ? e.reduce_bias[j] : 0.f);
    });
    in_lanes(SAMPLES * e.hidden, [=](int64_t j, int64_t count) {
        V before = load(h + j, count), s = sigmoid(before);
        V after = e.silu ? before * s : rectify(before);
        if (dh) store(dh + j, e.silu ? s * (1 + before * (1 - s)) : both(1.f - V{}, (V)(~(U)(before <= 0))), count);
        store(h + j, after, count);
    });
    combine<SAMPLES>(e.expand_bias, h, e.expand, e.hidden, gate, c);
    in_lanes(SAMPLES * c, [=](int64_t k, int64_t count) {
        V before = load(gate + k, count);
        V soft = e.hard ? clamp_to_one(before / 6.f + 0.5f) : sigmoid(before);
        store(gate + k, soft, count);
    });
}

// Compute the gradients of the squeezed means in dz from those of the gate, and those of the inputs of gate and activation in
// de and dh. `slopes` holds the derivatives from `excite`, or is null for ReLU, whose derivative follows from h.
template <int64_t SAMPLES>
void excite_backward(const Excitation& e, int64_t c, const float* gate, const float* h, const float* slopes, const float* dgate,
                     float* de, float* dh, float* dz) {
    in_lanes(SAMPLES * c, [=](int64_t k, int64_t count) {
        V g = load(gate + k, count);
        V slope = e.hard ? both(1.f / 6 - V{}, (V)((U)(g > 0) & (U)(g < 1))) : g * (1 - g);
        store(de + k, load(dgate + k, count) * slope, count);
    });
    multiply<SAMPLES>(e.expand, e.hidden, de, c, [=](int64_t s, int64_t j, float product) {
        int64_t at = s * e.hidden + j;
        float slope = slopes ? slopes[at] : float(!(h[at] <= 0));
        dh[at] = slope == 0 ? 0 : slope * product;
    });
    combine<SAMPLES>(nullptr, dh, e.reduce, e.hidden, dz, c);
}

// The sum over samples of outer products of `narrow` and `wide`, hidden x C or transposed, by squares that stay in registers.
inline void outer_products(const Team& team, int64_t n, int64_t c, int64_t hidden, const float* narrow, const float* wide, float* sum,
                           bool transposed) {
    team.share((c + LANES - 1) / LANES, [=](int64_t block) {
        int64_t k = block * LANES, channels = c - k < LANES ? c - k : LANES;
        in_lanes(hidden, [=](int64_t j, int64_t count) {
            V square[LANES] = {};
            for (int64_t i = 0; i < n; ++i) {
                V of = load(wide + i * c + k, channels);
                for (int64_t l = 0; l < count; ++l) square[l] += narrow[i * hidden + j + l] * of;
            }
            if (transposed) transpose_square(square);
            int64_t height = transposed ? channels : count;
            for (int64_t l = 0; l < height; ++l)
                transposed ? store(sum + (k + l) * hidden + j, square[l], count) : store(sum + (j + l) * c + k, square[l], channels);
        });
    });
}

// Gradients of the excitation's weights and biases.
struct OfExcitation { float *reduce, *expand, *reduce_bias, *expand_bias; };

// dreduce = dh^T z and dexpand = de^T h.
void weight_gradients(const Team& team, int64_t n, int64_t c, int64_t hidden, const float* z, const float* h, const float* de, const float* dh,
                      float* dreduce, float* dexpand) {
    outer_products(team, n, c, hidden, dh, z, dreduce, false);
    outer_products(team, n, c, hidden, h, de, dexpand, true);
}

// The sum of rows over samples.
inline void sum_samples(const Team& team, int64_t n, int64_t width, const float* from, float* sum) {
    team.share((width + LANES - 1) / LANES, [=](int64_t block) {
        int64_t k = block * LANES, count = width - k < LANES ? width - k : LANES;
        V total = {};
        for (int64_t i = 0; i < n; ++i) total += load(from + i * width + k, count);
        store(sum + k, total, count);
    });
}

// The gradients of the weights, and those of the biases: sums of dh and de over the samples.
void excitation_gradients(const Team& team, int64_t n, int64_t c, int64_t hidden, const float* z, const float* h, const float* de,
                          const float* dh, const OfExcitation& to) {
    weight_gradients(team, n, c, hidden, z, h, de, dh, to.reduce, to.expand);
    sum_samples(team, n, hidden, dh, to.reduce_bias);
    sum_samples(team, n, c, de, to.expand_bias);
}

// Process each sample in one thread, so that its second pass finds it in cache; with fewer samples than threads, divide rows
// among threads instead.
template <class Rows, class Small, class Map>
inline void by_sample(const Team& team, const Shape& z, Rows reduce, Small small, Map map) {
    int64_t reductions = rows(z) / z.n, maps = map_rows(z) / z.n;
    team.synchronize();
    if (z.n >= team.threads) {
        team.share(z.n, [=](int64_t n) {
            for (int64_t row = 0; row < reductions; ++row) reduce(n * reductions + row);
            small(n);
            for (int64_t row = maps; row-- > 0;) map(n * maps + row);  // backwards, because the last rows are in cache
        });
        return;
    }
    team.share(rows(z), [=](int64_t row) { reduce(row); });
    team.synchronize();
    team.share(z.n, [=](int64_t n) { small(n); });
    team.synchronize();
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
            [=](int64_t n) { excite<1>(t, z.c, squeezed + n * z.c, h + n * e.hidden, gate + n * z.c, slopes + n * e.hidden); },
            [=](int64_t row) {
                map_row(z, row, [=](int64_t i, int64_t count, Channels of) { store(out + i, load(x + i, count) * of[gate], count, z.around); });
            });
    });
}

template <class T>
void se_backward(Shape z, const T* x, const T* grad, Excitation e, const float* squeezed, const float* h, const float* slopes,
                 const float* gate, T* dx, float* dreduce, float* dexpand, float* dh, float* de, float* scratch) {
    int64_t nc = z.n * z.c;
    float *dgate = scratch, *dz = dgate + nc, *expand = dz + nc;
    Excitation t = e.with(expand);
    float share = 1.f / z.p;
    in_parallel(work(z, e, 5, 6), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        by_sample(team, z,
            [=](int64_t row) {
                sum_row(z, row, 1.f, dgate, [=](int64_t i, int64_t count) { return load(x + i, count) * load(grad + i, count); });
            },
            [=](int64_t n) {
                excite_backward<1>(t, z.c, gate + n * z.c, h + n * e.hidden, slopes + n * e.hidden, dgate + n * z.c,
                                       de + n * z.c, dh + n * e.hidden, dz + n * z.c);
            },
            [=](int64_t row) {
                map_row(z, row, [=](int64_t i, int64_t count, Channels of) {
                    store(dx + i, load(grad + i, count) * of[gate] + of[dz] * share, count, z.around);
                });
            });
        team.synchronize();
        weight_gradients(team, z.n, z.c, e.hidden, squeezed, h, de, dh, dreduce, dexpand);
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

// BatchNorm's factor of each channel.
inline void scale_channels(const Shape& z, int64_t row, const float* weight, const float* variance, float eps, float* scaled) {
    int64_t k = row * LANES, count = channels_of(z, row);
    store(scaled + k, load(weight + k, count) / root(load(variance + k, count) + eps), count);
}

// Compute the batch's mean and variance of each channel from those of the samples (algebra.py, batch_moments).
inline void batch_moments(const Shape& z, int64_t row, const float* mean, const float* var, float* mu, float* variance) {
    int64_t k = row * LANES, count = channels_of(z, row);
    V m = {}, within = {}, between = {}, share = 1.f / z.n - V{};
    for (int64_t n = 0; n < z.n; ++n) { m += load(mean + n * z.c + k, count); within += load(var + n * z.c + k, count); }
    m *= share;
    for (int64_t n = 0; n < z.n; ++n) { V d = load(mean + n * z.c + k, count) - m; between += d * d; }
    store(mu + k, m, count);
    store(variance + k, (within + between) * share, count);
}

// Running statistics, updated with the batch's mean and unbiased variance by `momentum`; null if BatchNorm has none.
struct Running { float *mean, *variance; float momentum; };

inline void update_running(const Shape& z, int64_t row, const Running& running, const float* mu, const float* variance) {
    int64_t k = row * LANES, count = channels_of(z, row);
    V share = running.momentum - V{}, unbiased = float(double(z.n) * z.p / (double(z.n) * z.p - 1)) - V{};
    V m = load(running.mean + k, count), v = load(running.variance + k, count);
    store(running.mean + k, m * (1 - share) + load(mu + k, count) * share, count);
    store(running.variance + k, v * (1 - share) + load(variance + k, count) * unbiased * share, count);
}

// Compute the output from the means of the samples and the batch's moments. Call it after a barrier.
template <class T>
inline void excite_and_write(const Team& team, const Shape& z, const T* x, const T* shortcut, const Norm& norm, const Excitation& t,
                             const float* mean, const float* mu, const float* scaled, T* out, uint8_t* mask, float* squeezed, float* h,
                             float* gate, float* slope, float* offset) {
    team.share_in_fours(z.n, [=](int64_t n, auto samples) {
        for (int64_t at = n * z.c; at < (n + samples) * z.c; at += z.c)
            in_lanes(z.c, [=](int64_t k, int64_t count) {
                V centred = load(mean + at + k, count) - load(mu + k, count);
                store(squeezed + at + k, centred * load(scaled + k, count) + load(norm.bias + k, count), count);
            });
        excite<samples>(t, z.c, squeezed + n * z.c, h + n * t.hidden, gate + n * z.c);
        for (int64_t at = n * z.c; at < (n + samples) * z.c; at += z.c)
            in_lanes(z.c, [=](int64_t k, int64_t count) {
                V of = load(scaled + k, count), gated = load(gate + at + k, count);
                store(offset + at + k, (load(norm.bias + k, count) - load(mu + k, count) * of) * gated, count);
                store(slope + at + k, of * gated, count);
            });
    });
    team.synchronize();
    auto write = [=](int64_t i, int64_t count, Channels of) {
        V y = load(x + i, count) * of[slope] + of[offset] + load(shortcut + i, count);
        store_mask(mask + i, (U)(y > 0), count, z.around);
        store(out + i, rectify(y), count, z.around);
    };
    // Backwards, because the last rows are still in cache.
    team.share(map_rows(z), [=](int64_t row) { map_row(z, map_rows(z) - 1 - row, write); });
}

template <class T>
void tail_forward(Shape z, const T* x, const T* shortcut, Norm norm, Running running, Excitation e, T* out, uint8_t* mask,
                  float* mean, float* mu, float* variance, float* squeezed, float* h, float* gate, float* scratch) {
    float *slope = scratch, *offset = slope + z.n * z.c, *expand = offset + z.n * z.c, *scaled = expand + z.c * e.hidden;
    Excitation t = e.with(expand);
    in_parallel(work(z, e, 4, 2), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        team.share(rows(z), [=](int64_t row) { moments_row(z, x, row, mean, offset); });
        team.synchronize();
        team.share(channel_rows(z), [=](int64_t row) {
            batch_moments(z, row, mean, offset, mu, variance);
            if (running.mean) update_running(z, row, running, mu, variance);
            scale_channels(z, row, norm.weight, variance, norm.eps, scaled);
        });
        team.synchronize();
        excite_and_write(team, z, x, shortcut, norm, t, mean, mu, scaled, out, mask, squeezed, h, gate, slope, offset);
    });
}

// The forward in two halves, between which processes exchange moments.
template <class T>
void tail_moments(Shape z, const T* x, float* mean, float* within) {
    in_parallel(z.n * z.c * z.p, z.threads, [=](const Team& team) {
        team.share(rows(z), [=](int64_t row) { moments_row(z, x, row, mean, within); });
    });
}

template <class T>
void tail_normalized(Shape z, const T* x, const T* shortcut, Norm norm, Excitation e, const float* mean, const float* mu, const float* variance,
                     T* out, uint8_t* mask, float* squeezed, float* h, float* gate, float* scratch) {
    float *slope = scratch, *offset = slope + z.n * z.c, *expand = offset + z.n * z.c, *scaled = expand + z.c * e.hidden;
    Excitation t = e.with(expand);
    in_parallel(work(z, e, 3, 2), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        team.share(channel_rows(z), [=](int64_t row) { scale_channels(z, row, norm.weight, variance, norm.eps, scaled); });
        team.synchronize();
        excite_and_write(team, z, x, shortcut, norm, t, mean, mu, scaled, out, mask, squeezed, h, gate, slope, offset);
    });
}

// Write the gradient of the shortcut, p = grad where out > 0, and the sums of p and p (x - mu) for each channel and sample.
template <class T>
void gate_sums_row(const Shape& z, const T* x, const T* grad, const uint8_t* mask, const float* mu, int64_t row, T* dshortcut,
                   float* s1, float* s2) {
    int64_t n = row / blocks(z);
    reduce_row(z, row, [=](int64_t i, Channels of, int64_t count, V& s, V& q) {
        V p = both(load(grad + i, count), load_mask(mask + i, count));
        store(dshortcut + i, p, count, z.around);
        s += p;
        q += p * (load(x + i, count) - of[mu]);
    }, [=](int64_t k, int64_t count, V s, V q) {
        store(s1 + n * z.c + k, s, count);
        store(s2 + n * z.c + k, q, count);
    });
}

// Results of the forward: the means of each sample, the batch's moments, and the gate.
struct Batch { const float *mean, *mu, *variance, *gate; };

// Intermediate results of the backward, N x C each, and the gradients of the activation's input, N x hidden.
struct Intermediates { float *s1, *s2, *dgate, *de, *dz, *dh; };

// Compute the gradients back to the squeezed means. Ends with a barrier.
template <class T>
inline void backward_to_squeeze(const Team& team, const Shape& z, const T* x, const T* grad, const uint8_t* mask, const Norm& norm,
                                const Excitation& e, const Excitation& t, float* expand, float* scaled, const Batch& kept, const float* h,
                                T* dshortcut, const Intermediates& to) {
    transpose(team, e.expand, expand, z.c, e.hidden);
    team.share(channel_rows(z), [=](int64_t row) { scale_channels(z, row, norm.weight, kept.variance, norm.eps, scaled); });
    team.share(rows(z), [=](int64_t row) { gate_sums_row(z, x, grad, mask, kept.mu, row, dshortcut, to.s1, to.s2); });
    team.synchronize();
    team.share_in_fours(z.n, [=](int64_t n, auto samples) {
        for (int64_t at = n * z.c; at < (n + samples) * z.c; at += z.c)
            in_lanes(z.c, [=](int64_t k, int64_t count) {
                V sum = load(scaled + k, count) * load(to.s2 + at + k, count) + load(norm.bias + k, count) * load(to.s1 + at + k, count);
                store(to.dgate + at + k, sum, count);
            });
        int64_t at = n * z.c, hidden = n * e.hidden;
        excite_backward<samples>(t, z.c, kept.gate + at, h + hidden, nullptr, to.dgate + at, to.de + at, to.dh + hidden, to.dz + at);
    });
    team.synchronize();
}

// The gradients of BatchNorm's weight and bias.
inline void norm_gradients_row(const Shape& z, int64_t row, float eps, const Batch& kept, const Intermediates& to, float* dweight, float* dbias) {
    int64_t k = row * LANES, count = channels_of(z, row);
    V of_bias = {}, of_weight = {}, centre = load(kept.mu + k, count);
    for (int64_t i = k; i < z.n * z.c; i += z.c) {
        V s = load(kept.gate + i, count), squeeze = load(to.dz + i, count);
        of_bias += s * load(to.s1 + i, count) + squeeze;
        of_weight += s * load(to.s2 + i, count) + squeeze * (load(kept.mean + i, count) - centre);
    }
    store(dbias + k, of_bias, count);
    store(dweight + k, of_weight / root(load(kept.variance + k, count) + eps), count);
}

// Coefficients of dx: factors of the gradient of the shortcut and of x, and a constant. `values` is the number of values of a
// channel in the batch, over which the gradients of weight and bias are sums.
struct Coefficients { float *slope, *of_x, *offset; };
inline void coefficients_row(const Shape& z, int64_t row, float eps, double values, const Batch& kept, const float* scaled, const float* dz,
                             const float* dweight, const float* dbias, const Coefficients& to) {
    int64_t k = row * LANES, count = channels_of(z, row);
    V count_inverse = float(1 / values) - V{}, share = 1.f / z.p - V{};
    V inverse = 1 / root(load(kept.variance + k, count) + eps), of_bias = load(dbias + k, count) * count_inverse;
    V a = load(scaled + k, count), b = -a * inverse * load(dweight + k, count) * count_inverse, centre = load(kept.mu + k, count);
    for (int64_t i = k; i < z.n * z.c; i += z.c) {
        V constant = a * (load(dz + i, count) * share - of_bias) - b * centre;
        store(to.slope + i, a * load(kept.gate + i, count), count);
        store(to.of_x + i, b, count);
        store(to.offset + i, constant, count);
    }
}

template <class T>
inline void write_dx(const Team& team, const Shape& z, const T* x, const T* dshortcut, const Coefficients& by, T* dx) {
    auto write = [=](int64_t i, int64_t count, Channels of) {
        store(dx + i, load(dshortcut + i, count) * of[by.slope] + load(x + i, count) * of[by.of_x] + of[by.offset], count, z.around);
    };
    team.share(map_rows(z), [=](int64_t row) { map_row(z, map_rows(z) - 1 - row, write); });
}

template <class T>
void tail_backward(Shape z, const T* x, const T* grad, const uint8_t* mask, Norm norm, Excitation e, Batch kept, const float* squeezed,
                   const float* h, T* dx, T* dshortcut, float* dweight, float* dbias, OfExcitation to, float* scratch) {
    int64_t nc = z.n * z.c;
    float *s1 = scratch, *s2 = s1 + nc, *dgate = s2 + nc, *de = dgate + nc, *dz = de + nc, *of_x = dz + nc;
    float *dh = of_x + nc, *expand = dh + z.n * e.hidden, *scaled = expand + z.c * e.hidden;
    Intermediates steps{s1, s2, dgate, de, dz, dh};
    Coefficients by{s1, of_x, s2};  // overwrites sums that are no longer needed
    Excitation t = e.with(expand);
    in_parallel(work(z, e, 7, 6), z.threads, [=](const Team& team) {
        backward_to_squeeze(team, z, x, grad, mask, norm, e, t, expand, scaled, kept, h, dshortcut, steps);
        team.share(channel_rows(z), [=](int64_t row) {
            norm_gradients_row(z, row, norm.eps, kept, steps, dweight, dbias);
            coefficients_row(z, row, norm.eps, double(z.n) * z.p, kept, scaled, dz, dweight, dbias, by);
        });
        team.synchronize();
        write_dx(team, z, x, dshortcut, by, dx);
        excitation_gradients(team, z.n, z.c, e.hidden, squeezed, h, de, dh, to);
    });
}

// The backward in two halves, between which processes exchange sums.
template <class T>
void tail_sums(Shape z, const T* x, const T* grad, const uint8_t* mask, Norm norm, Excitation e, Batch kept, const float* squeezed,
               const float* h, T* dshortcut, float* dweight, float* dbias, OfExcitation to, float* dz, float* scratch) {
    int64_t nc = z.n * z.c;
    float *s1 = scratch, *s2 = s1 + nc, *dgate = s2 + nc, *de = dgate + nc, *dh = de + nc, *expand = dh + z.n * e.hidden;
    float* scaled = expand + z.c * e.hidden;
    Intermediates steps{s1, s2, dgate, de, dz, dh};
    Excitation t = e.with(expand);
    in_parallel(work(z, e, 4, 6), z.threads, [=](const Team& team) {
        backward_to_squeeze(team, z, x, grad, mask, norm, e, t, expand, scaled, kept, h, dshortcut, steps);
        team.share(channel_rows(z), [=](int64_t row) { norm_gradients_row(z, row, norm.eps, kept, steps, dweight, dbias); });
        excitation_gradients(team, z.n, z.c, e.hidden, squeezed, h, de, dh, to);
    });
}

template <class T>
void tail_blend(Shape z, const T* x, const T* dshortcut, const float* weight, float eps, Batch kept, const float* dz, const float* dweight,
                const float* dbias, double values, T* dx, float* scratch) {
    int64_t nc = z.n * z.c;
    float* scaled = scratch + 3 * nc;
    Coefficients by{scratch, scratch + nc, scratch + 2 * nc};
    in_parallel(3 * nc * z.p, z.threads, [=](const Team& team) {
        team.share(channel_rows(z), [=](int64_t row) {
            scale_channels(z, row, weight, kept.variance, eps, scaled);
            coefficients_row(z, row, eps, values, kept, scaled, dz, dweight, dbias, by);
        });
        team.synchronize();
        write_dx(team, z, x, dshortcut, by, dx);
    });
}

// In inference BatchNorm is x a[c] + d[c], and the squeeze is a[c] mean(x) + d[c].
struct Frozen { const float *weight, *bias, *mean, *variance; float eps; };

// Compute scale and shift of the tail from the means of a sample's map. `scale` first holds the gate.
inline void scale_sample(const Frozen& norm, const Excitation& e, int64_t c, const float* scaled, const float* known, float* squeezed, float* h,
                         float* scale, float* shift) {
    const float* means = known ? known : squeezed;
    in_lanes(c, [=](int64_t k, int64_t count) {
        V a = load(scaled + k, count), d = load(norm.bias + k, count) - load(norm.mean + k, count) * a;
        store(shift + k, d, count);
        store(squeezed + k, load(means + k, count) * a + d, count);
    });
    excite<1>(e, c, squeezed, h, scale);
    in_lanes(c, [=](int64_t k, int64_t count) {
        V s = load(scale + k, count);
        store(shift + k, load(shift + k, count) * s, count);
        store(scale + k, load(scaled + k, count) * s, count);
    });
}

// Compute the means of a row of the map, unless they are known.
template <class T>
inline void squeeze_row(const Shape& z, const T* x, const float* known, int64_t row, float* squeezed) {
    if (!known) sum_row(z, row, 1.f / z.p, squeezed, [=](int64_t i, int64_t count) { return load(x + i, count); });
}

// Scale and shift alone, for a compiler that generates the other kernels.
template <class T>
void tail_scaling(Shape z, const T* x, const float* known, Frozen norm, Excitation e, float* scale, float* shift, float* scratch) {
    float *squeezed = scratch, *h = squeezed + z.n * z.c, *expand = h + z.n * e.hidden, *scaled = expand + z.c * e.hidden;
    Excitation t = e.with(expand);
    in_parallel(work(z, e, 1, 2), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        team.share(channel_rows(z), [=](int64_t row) { scale_channels(z, row, norm.weight, norm.variance, norm.eps, scaled); });
        by_sample(team, z,
            [=](int64_t row) { squeeze_row(z, x, known, row, squeezed); },
            [=](int64_t n) { scale_sample(norm, t, z.c, scaled, known ? known + n * z.c : nullptr, squeezed + n * z.c, h + n * e.hidden, scale + n * z.c, shift + n * z.c); },
            [](int64_t) {});
    });
}

template <class T>
void tail_inference(Shape z, const T* x, const T* shortcut, const float* known, Frozen norm, Excitation e, T* out, float* scratch) {
    int64_t nc = z.n * z.c;
    float *squeezed = scratch, *scale = squeezed + nc, *shift = scale + nc, *h = shift + nc, *expand = h + z.n * e.hidden, *scaled = expand + z.c * e.hidden;
    Excitation t = e.with(expand);
    in_parallel(work(z, e, 4, 2), z.threads, [=](const Team& team) {
        transpose(team, e.expand, expand, z.c, e.hidden);
        team.share(channel_rows(z), [=](int64_t row) { scale_channels(z, row, norm.weight, norm.variance, norm.eps, scaled); });
        by_sample(team, z,
            [=](int64_t row) { squeeze_row(z, x, known, row, squeezed); },
            [=](int64_t n) { scale_sample(norm, t, z.c, scaled, known ? known + n * z.c : nullptr, squeezed + n * z.c, h + n * e.hidden, scale + n * z.c, shift + n * z.c); },
            [=](int64_t row) {
                map_row(z, row, [=](int64_t i, int64_t count, Channels of) {
                    V y = load(x + i, count) * of[scale] + of[shift] + load(shortcut + i, count);
                    store(out + i, rectify(y), count, z.around);
                });
            });
    });
}

// --- relu(batch_norm(x)) in inference, with the sums that give the squeeze of the next convolution's output ----------------

// Compute the sums of a plane over the pixels that each tap of a padded 3x3 convolution covers. The upper taps never cover the
// last row, the lower ones not the first, and likewise for columns. at(y, x) returns numbers of the plane.
template <class Value, class At, class Put>
inline void window_sums(Value total, int64_t height, int64_t width, At at, Put put) {
    Value top{}, bottom{}, left{}, right{};
    for (int64_t x = 0; x < width; ++x) { top += at(0, x); bottom += at(height - 1, x); }
    for (int64_t y = 0; y < height; ++y) { left += at(y, 0); right += at(y, width - 1); }
    Value rows[3] = {bottom, Value{}, top}, columns[3] = {right, Value{}, left};
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
            Value sum = total - rows[i] - columns[j];
            if (i != 1 && j != 1) sum += at(i == 0 ? height - 1 : 0, j == 0 ? width - 1 : 0);
            put(i * 3 + j, sum);
        }
}

template <class T>
void rectified_norm(Shape z, int64_t width, const T* x, Frozen norm, T* out, float* sums, float* scaled) {
    int64_t height = z.p / width;
    float* shift = scaled + z.c;
    in_parallel(3 * z.n * z.c * z.p, z.threads, [=](const Team& team) {
        team.share(channel_rows(z), [=](int64_t row) {
            int64_t k = row * LANES, count = channels_of(z, row);
            scale_channels(z, row, norm.weight, norm.variance, norm.eps, scaled);
            store(shift + k, load(norm.bias + k, count) - load(norm.mean + k, count) * load(scaled + k, count), count);
        });
        team.synchronize();
        team.share(rows(z), [=](int64_t row) {
            int64_t n = row / blocks(z), from = n * z.p * z.c;
            reduce_row(z, row, [=](int64_t i, Channels of, int64_t count, V& s, V&) {
                store(out + i, rectify(load(x + i, count) * of[scaled] + of[shift]), count);
                s += load(out + i, count);  // the rounded values, and 0 beyond the end
            }, [=](int64_t k, int64_t count, V sum, V) {
                if (z.last) {
                    window_sums(sum, height, width, [=](int64_t i, int64_t j) { return load(out + from + (i * width + j) * z.c + k, count); },
                                [=](int tap, V sums_of_tap) { for (int64_t l = 0; l < count; ++l) sums[(n * z.c + k + l) * 9 + tap] = sums_of_tap[l]; });
                    return;
                }
                for (int64_t l = 0; l < count; ++l) {
                    const T* plane = out + from + (k + l) * z.p;
                    window_sums(sum[l], height, width, [=](int64_t i, int64_t j) { return load(plane + i * width + j, 1)[0]; },
                                [=](int tap, float sum_of_tap) { sums[(n * z.c + k + l) * 9 + tap] = sum_of_tap; });
                }
            });
        });
    });
}

}  // namespace
