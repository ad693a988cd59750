// The search kernels for: generic.
#include "search_bodies.h"

namespace colindex {

const SearchKernels search_generic = {&score_records,     &similarities,     &score_byte_records, &byte_similarities,
                                      &score_centroids, &sample_centroids, kTileTokens};

}  // namespace colindex

