"""What is run against a broker to see it work: the demo, the locust scenarios, the benches. Never shipped."""
