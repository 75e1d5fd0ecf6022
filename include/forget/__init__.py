"""Forget users: remove their listens from every copy that the pipeline keeps.

`content` removes them from the content of one object. `erasure` finds the objects and replaces them.
`command` shows the findings, asks and starts the removal. ``python -m include.forget`` works on AWS,
``make forget`` on local AWS. docs/privacy.md says where a user id is, and what remains.
"""
