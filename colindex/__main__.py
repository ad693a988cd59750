"""`python -m colindex`: the command line. The one place in colindex/ that may import from above, and only when run."""

if __name__ == "__main__":
    from colindex.cli import main

    main()
