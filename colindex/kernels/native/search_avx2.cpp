// The search kernels for: avx2.
#if defined(__x86_64__)
#include "search_bodies.h"

namespace colindex {

const SearchKernels search_avx2 = {
    &score_records, &similarities, &score_byte_records, &byte_similarities, &score_held_records, &held_similarities,
    &score_all,     &score_some,   &reached_by,         &shortlist,         &reaching,           &positive,
    &move_row,      &nearest_cells, kTileTokens};

}  // namespace colindex

#endif
