"""REST application."""


def make_app(engine):
    def app(environ, start_response):
        start_response("404 Not Found", [("content-type", "text/plain")])
        return [b"404 page not found"]

    return app
