"""The inner loops of a search and of a build: arrays in, arrays out.

A kernel knows no dataclass, path, logger or setting, and changes no argument. `reference` defines each one in NumPy;
`native` holds faster bodies in C++ with the same names, signatures and answers, and tests hold them equal; `chosen` is the
native one where it was built, else the reference. `tables` makes what a search multiplies with.

    top_centroids     query tokens x centroids -> the best centroids of each token
    nearest_cells     centroids, centres of cells, in whole numbers -> the nearest centre of each
    gather            probed centroids, postings -> the best documents met, approximate scores, entries walked
    score_records     query tokens x the records of each document -> scores
    refine            query tokens x candidates -> the best of those that would plausibly be: all rounds of it in one call
    maxsim            query tokens x the vectors of each document -> scores
    best              scores -> positions of the k highest, ties by lower position
    invert            centroids of each document -> documents of each centroid
    grid_columns      matrix -> what `project` multiplies with
    project           vectors x matrix -> vectors, exactly
    nearest           vectors, centroids -> the nearest centroid of each
    add_rows          vectors, groups -> the sum of each group
    encode_residuals  vectors, centroids -> packed codes and lengths
    encode_trellis    scaled residuals -> packed codes
    decode_trellis    packed codes -> directions
    trellis_states    packed codes -> the state of each dimension
    decode_records    records, centroids, levels -> vectors
    ward_labels       vectors of one document -> the cluster of each

Of `refine` there is a native body only; `colindex.refinement` is its definition.
"""
