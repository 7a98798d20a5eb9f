// Swagger UI on this site's own description of the API. The token a person enters stays in the
// page's memory only. A session of the admin works too: its CSRF token goes along.
const main = document.getElementById("swagger");
const csrf = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/);

window.SwaggerUIBundle({
  url: main.dataset.schema,
  domNode: main,
  deepLinking: true,
  docExpansion: "none",
  displayRequestDuration: true,
  requestInterceptor: (request) => {
    if (csrf) request.headers["X-CSRFToken"] = csrf[1];
    return request;
  },
});
