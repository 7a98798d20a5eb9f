// Swagger UI on this site's own description of the API. The token a person enters stays in the
// page's memory only. A session of the admin works too: its CSRF token goes along.
const main = document.getElementById("swagger");
// With TLS the site gives its cookies the prefix that neighbours cannot write.
const csrf = document.cookie.match(/(?:^|; )(?:__Host-)?csrftoken=([^;]+)/);

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// @ts-expect-error its own script is loaded before this one
window.SwaggerUIBundle({
  url: main.dataset.schema,
  domNode: main,
  deepLinking: true,
  docExpansion: "list",
  displayRequestDuration: true,
  // Its list of servers has no name that could be read aloud.
  onComplete: () => document.getElementById("servers")?.setAttribute("aria-label", "Server"),
  requestInterceptor: (request) => {
    if (csrf) request.headers["X-CSRFToken"] = csrf[1];
    return request;
  },
});
