"""The objects of the API, one file each: what answers carry and what requests may send.

Answers are built from these types, and the OpenAPI document is generated from them. Descriptions are for API users.
"""
