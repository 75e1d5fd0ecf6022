"""`make smoke`: proves on your AWS account what local AWS cannot show.

It deploys `include/stack.yaml` under a random suffix and runs the DAG on two tiny deliveries under the
stack's two roles. It compares the results with values that were computed by hand, and removes everything it
created, even after a failure or Ctrl-C. `docs/unproven.md` lists what each step proves.

If AWS_ENDPOINT_URL points to local AWS, that serves as the account, with any keys: for example, after
`make run`, `AWS_ENDPOINT_URL=http://127.0.0.1:5555 AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=local
AWS_SECRET_ACCESS_KEY=local make smoke`.
"""
