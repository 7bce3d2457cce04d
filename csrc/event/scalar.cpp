#include "event/vec_scalar.hpp"
//
#include "event/pack.hpp"
//
#include "event/conv.hpp"
