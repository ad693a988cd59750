// The bodies of the search kernels, compiled once for each instruction set.
#pragma once

#include "probe.h"
#include "refine.h"
#include "refine_bytes.h"
#include "refine_floats.h"
