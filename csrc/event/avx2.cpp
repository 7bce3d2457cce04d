#include "event/vec_avx2.hpp"
//
#include "event/pack.hpp"
//
#include "event/conv.hpp"
