"""The inner loops of a search: arrays in, arrays out.

A kernel knows no dataclass, path, logger or setting, and changes no argument. `reference` defines each one in NumPy;
any faster body has the same name, the same signature and the same answers, and a test holds them equal.

    top_centroids   query tokens x centroids -> the best centroids of each token
    gather          probed centroids, postings -> documents met, approximate scores, entries walked
    maxsim          query tokens x the vectors of each document -> scores
    best            scores -> positions of the k highest, ties by lower position
    invert          centroids of each document -> documents of each centroid
    encode_trellis  scaled residuals -> packed codes
    decode_trellis  packed codes -> directions
    trellis_states  packed codes -> the state of each dimension
    decode_records  records, centroids, levels -> vectors
    ward_labels     vectors of one document -> the cluster of each
"""
