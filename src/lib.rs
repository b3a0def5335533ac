//! `runfleet` keeps the right number of CI runners alive, on whichever cloud is cheapest now.
