// The kernels of a build for AVX-512 with VNNI.
#if defined(__AVX512VNNI__)
#include "assign.h"
#include "build_kernels.h"
#include "project.h"
#include "residual.h"
#include "trellis.h"
#include "ward.h"

namespace colindex {

const BuildKernels build_avx512 = {
    encode_trellis, encode_residuals, nearest, add_rows, project, ward_labels,
};

}  // namespace colindex
#endif
