"""Tests of `tokenvalet.testing`: judges that let everything pass would prove nothing."""
