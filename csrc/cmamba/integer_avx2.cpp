#define SF_INTEGER avx2_integer
#include "cmamba/integer_kernels.hpp"
