"""Views of a match: one reading of it, and a renderer for each place where it is looked at.

    Match -> pieces · rows · grid -> html · terminal · plot · data            a comparison -> html · terminal · data

1. `pieces` cuts the document's text where a token begins or ends; put together again they are that text.
2. `rows` lists what each query token adds to the score, and where.
3. `grid` chooses the part of the matrix that can be looked at, and how strong a similarity is shown.
4. The renderers say the same in HTML, on a terminal, as a plot and as JSON. They compute nothing.

No text of a query or a document is ever taken for markup (`characters`).
"""
