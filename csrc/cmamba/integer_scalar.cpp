#define SF_INTEGER scalar_integer
#include "cmamba/integer_kernels.hpp"
