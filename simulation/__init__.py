"""A fleet under a virtual clock: the code of tokenvalet itself, thousands of processes of it, weeks in a minute."""
