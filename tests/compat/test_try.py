def test_a(client, collection_name, server):
    print(client.get_server_version(), server.log, server.pid)
    client.create_collection(collection_name, dimension=4)
    print(client.describe_collection(collection_name))
    print(client.describe_index(collection_name, "vector"))
    client.insert(collection_name, [{"id": 1, "vector": [1,2,3,4.], "a": 4}])
    print(client.search(collection_name, [[1,2,3,4.]], output_fields=["*"]))
    assert 0
def test_b(new_server):
    s = new_server(); s.stop(); s.start(); s.kill(); s.start(); print(s.log)
