#include "scan/math_avx2.hpp"
//
#include "scan/kernels.hpp"
