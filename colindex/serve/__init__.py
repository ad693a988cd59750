"""A server of one index: a page to search with, and a JSON API.

    cli/serve -> running -> app -> guard · metrics · work -> answers -> snippets
                             |                    |
                           shapes             problems

1. `running` takes the port, opens the index and serves until it is told to stop; requests that run are then finished.
2. `guard` refuses what is too large or comes under a wrong name, and adds the headers that keep browsers strict.
3. `app` names the routes; `shapes` says what goes in and out of them, for validation and for OpenAPI.
4. `work` runs calls of the index in threads: so many at once, so many waiting, so long.
5. `answers` asks the index and makes plain values of what it says; `snippets` cuts the part of a document that answers.
6. `problems` makes a JSON object of every error; `metrics` counts.

The page (`static/`) is one HTML, one CSS and one JavaScript file. It asks the API and loads nothing from elsewhere.
"""
