// The kernels of a build for any machine of the architecture.
#include "assign.h"
#include "build_kernels.h"
#include "project.h"
#include "residual.h"
#include "trellis.h"
#include "ward.h"

namespace colindex {

const BuildKernels build_generic = {
    encode_trellis, encode_residuals, nearest, add_rows, project, ward_labels,
};

}  // namespace colindex
