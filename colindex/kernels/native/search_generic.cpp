// The search kernels for: generic.
#include "search_bodies.h"

namespace colindex {

const SearchKernels search_generic = {&score_records, &score_centroids, &sample_centroids, kTileTokens};

}  // namespace colindex

