"""What is particular to one HTTP library, beside the contract that all of them keep."""
