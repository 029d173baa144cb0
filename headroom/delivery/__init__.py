"""A report on its way to people: a folder, an object store, a chat, a mail. Retried, and never sent twice.

message --> ledger: sent already? --> target.send --> delivered            written down
                                          |---------> not taken            tried again, then said
                                          |---------> nobody knows         written down: not sent again
"""
