// Vectors of numbers, as wide as the instruction set has them; the compiler's vector types do the arithmetic, and here stands
// what they have no words for.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

namespace colindex {
namespace {

#if defined(__AVX512VNNI__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef std::int32_t Lanes __attribute__((vector_size(kLanes * 4)));

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef double Doubles __attribute__((vector_size(kLanes * 4)));
typedef float HalfFloats __attribute__((vector_size(kLanes * 2)));
constexpr int kDoubles = kLanes / 2;

inline Lanes all(std::int32_t value) { return Lanes{} + value; }

inline Lanes least(Lanes a, Lanes b) {
#if defined(__AVX512VNNI__)
    return (Lanes)_mm512_min_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (Lanes)_mm256_min_epi32((__m256i)a, (__m256i)b);
#else
    return a < b ? a : b;
#endif
}

// sum + value * factor, both of magnitude below 2**15, the factor as `factor` (trellis_tables.h) has made it.
inline Lanes plus_product(Lanes sum, Lanes value, std::int32_t factor) {
#if defined(__AVX512VNNI__)
    return (Lanes)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)value, _mm512_set1_epi32(factor));
#elif defined(__AVX2__)
    return sum + (Lanes)_mm256_madd_epi16((__m256i)value, _mm256_set1_epi32(factor));
#elif defined(__SSE2__)
    return sum + (Lanes)_mm_madd_epi16((__m128i)value, _mm_set1_epi32(factor));
#else
    return sum + value * factor;
#endif
}

// Whether a comparison held in every lane.
inline bool all_set(Lanes mask) {
#if defined(__AVX512VNNI__)
    return _mm512_movepi32_mask((__m512i)mask) == 0xFFFF;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)mask) == -1;
#else
    return (mask[0] & mask[1] & mask[2] & mask[3]) == -1;
#endif
}

inline Floats all(float value) {
#if defined(__AVX512VNNI__)
    return (Floats)_mm512_set1_ps(value);
#elif defined(__AVX2__)
    return (Floats)_mm256_set1_ps(value);
#else
    return Floats{value, value, value, value};
#endif
}

inline Doubles all(double value) {
#if defined(__AVX512VNNI__)
    return (Doubles)_mm512_set1_pd(value);
#elif defined(__AVX2__)
    return (Doubles)_mm256_set1_pd(value);
#else
    return Doubles{value, value};
#endif
}

template <typename Vector, typename Value>
inline Vector load(const Value* values) {
    Vector vector;
    std::memcpy(&vector, values, sizeof(vector));
    return vector;
}

template <typename Vector, typename Value>
inline void store(Value* values, Vector vector) {
    std::memcpy(values, &vector, sizeof(vector));
}

inline Doubles widened(const float* values) { return __builtin_convertvector(load<HalfFloats>(values), Doubles); }

// The same value, which the compiler may not fuse with what is added to it: where the rounding of a product counts.
template <typename Value>
inline Value rounded(Value value) {
#if defined(__AVX512VNNI__)
    __asm__("" : "+v"(value));
#elif defined(__SSE2__)
    __asm__("" : "+x"(value));
#elif defined(__aarch64__)
    __asm__("" : "+w"(value));
#endif
    return value;
}

// sum + a * b, rounded once where the machine can: use only where that does not matter.
inline Floats plus_product(Floats sum, Floats a, Floats b) {
#if defined(__AVX512VNNI__)
    return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__AVX2__)
    return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
    return sum + a * b;
#endif
}

inline Doubles plus_product(Doubles sum, Doubles a, Doubles b) {
#if defined(__AVX512VNNI__)
    return (Doubles)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)sum);
#elif defined(__AVX2__)
    return (Doubles)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)sum);
#else
    return sum + a * b;
#endif
}

}  // namespace
}  // namespace colindex
