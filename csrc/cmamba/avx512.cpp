#include "scan/math_avx512.hpp"
//
#define SF_CMAMBA avx512_cmamba
#include "cmamba/kernels.hpp"
