// The search kernels for: generic.
#include "search_bodies.h"

namespace colindex {

const SearchKernels search_generic = {
    &score_records, &similarities, &score_byte_records, &byte_similarities, &score_held_records, &held_similarities,
    &score_all,     &score_some,   &reached_by,         &shortlist,         &reaching,           &positive,
    &move_row,      &nearest_cells, kTileTokens};

}  // namespace colindex

