#include "scan/math_avx512.hpp"
//
#include "scan/kernels.hpp"
