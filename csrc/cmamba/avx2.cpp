#include "scan/math_avx2.hpp"
//
#define SF_CMAMBA avx2_cmamba
#include "cmamba/kernels.hpp"
