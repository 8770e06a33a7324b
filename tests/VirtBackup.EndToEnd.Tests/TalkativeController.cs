using System.Net;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.Logging;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Testing.Installations;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>
/// Stands in for an installation's controller, with its authority's certificate and at its address, and begins every
/// call with one message of a chosen length.
/// </summary>
internal sealed class TalkativeController : IAsyncDisposable
{
    private readonly WebApplication _application;
    private readonly X509Certificate2 _certificate;

    private TalkativeController(WebApplication application, X509Certificate2 certificate)
    {
        _application = application;
        _certificate = certificate;
    }

    public static async Task<TalkativeController> StartAsync(Installation installation, int messageBytes)
    {
        using var authority = new ControllerHome(installation.Home).ReadAuthority(SystemEntropy.Instance, TimeProvider.System);
        var certificate = authority.IssueServer([], [IPAddress.Loopback]);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, installation.Port, listen =>
        {
            listen.Protocols = HttpProtocols.Http2;
            listen.UseHttps(certificate, https =>
            {
                https.ClientCertificateMode = ClientCertificateMode.RequireCertificate;
                https.AllowAnyClientCertificate();
            });
        }));
        var application = builder.Build();
        application.Run(async context =>
        {
            context.Response.ContentType = "application/grpc";
            await context.Response.Body.WriteAsync(GrpcFrame.Of(15, messageBytes), context.RequestAborted);
            await Task.Delay(Timeout.Infinite, context.RequestAborted).ContinueWith(static _ => { }, TaskScheduler.Default);
        });
        await application.StartAsync();
        return new TalkativeController(application, certificate);
    }

    public async ValueTask DisposeAsync()
    {
        await _application.DisposeAsync();
        _certificate.Dispose();
    }
}
