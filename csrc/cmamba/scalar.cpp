#include "scan/math_scalar.hpp"
//
#define SF_CMAMBA scalar_cmamba
#include "cmamba/kernels.hpp"
