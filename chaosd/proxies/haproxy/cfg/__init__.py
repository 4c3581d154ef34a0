"""The one reader of haproxy.cfg: files, words, sections, and the effective settings.

`read_files` makes a Document of the user's files, `resolve` makes the effective value of every
keyword of every server of it. Nothing here raises for a user's text: what is wrong or not
understood is a `Problem` with its line.
"""
