"""Snapshots out of the store and into another: `exporting` and `importing`, and what lies between.

Content is cut into blocks named by their sha256, each compressed by itself. They lie in one file
(`packed`) or in a folder that many snapshots share (`folder`); either way a second export adds only
the blocks that are not there yet. Whatever is imported is hostile until every digest was checked.
"""
