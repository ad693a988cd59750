// Whole numbers out of floating point.
#pragma once

#include <cstdint>
#include <cstring>

namespace colindex {
namespace {

// The nearest whole number, the even one of two, of a value below 2**31: what `lrint` gives, without the call.
inline std::int32_t whole(double value) {
    const double shifted = value + 6755399441055744.0;  // 1.5 * 2**52: the last bits are whole
    std::int64_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    return static_cast<std::int32_t>(bits);
}

}  // namespace
}  // namespace colindex
