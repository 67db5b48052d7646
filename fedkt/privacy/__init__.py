"""Differential privacy: mechanisms, accounting, the ledger, the statement, and the audit that tries them."""
