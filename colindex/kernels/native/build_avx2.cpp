// The kernels of a build for AVX2.
#if defined(__AVX2__)
#include "assign.h"
#include "build_kernels.h"
#include "project.h"
#include "residual.h"
#include "trellis.h"
#include "ward.h"

namespace colindex {

const BuildKernels build_avx2 = {
    encode_trellis, encode_residuals, nearest, add_rows, project, ward_labels,
};

}  // namespace colindex
#endif
