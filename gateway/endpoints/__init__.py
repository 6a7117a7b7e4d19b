"""What each URL answers: a request in, a reply or a subscription out."""
