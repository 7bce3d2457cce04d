#include "event/vec_avx512.hpp"
//
#include "event/pack.hpp"
//
#include "event/conv.hpp"
