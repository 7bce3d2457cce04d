#pragma once
#include <cstddef>
#include <string>

namespace sparseflow {

// The SHA-256 of some bytes (FIPS 180-4) as 64 hexadecimal digits, to notice damage; nothing here is secret.
std::string sha256(const char* data, size_t size);

}  // namespace sparseflow
