using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>A controller's network side: TLS in which both sides prove themselves, over services that answer from memory.</summary>
internal sealed class FakeController : IAsyncDisposable
{
    private readonly WebApplication _application;
    private readonly X509Certificate2 _certificate;

    private FakeController(WebApplication application, CertificateAuthority authority, X509Certificate2 certificate)
    {
        (_application, Authority, _certificate) = (application, authority, certificate);
        Address = new Uri(application.Urls.Single()).Authority;
    }

    public CertificateAuthority Authority { get; }

    public string Address { get; }

    public FakeAdmin Admin => _application.Services.GetRequiredService<FakeAdmin>();

    public FakeReplication Replication => _application.Services.GetRequiredService<FakeReplication>();

    public FakeEnrollment Enrollment => _application.Services.GetRequiredService<FakeEnrollment>();

    public static async Task<FakeController> StartAsync()
    {
        var authority = CertificateAuthority.Create(SystemEntropy.Instance, TimeProvider.System);
        var certificate = authority.IssueServer([], [IPAddress.Loopback]);
        var chain = new ChainPolicy(authority.Certificate, TimeProvider.System);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen =>
        {
            listen.Protocols = HttpProtocols.Http2;
            listen.UseHttps(https =>
            {
                https.ServerCertificate = certificate;
                https.ClientCertificateMode = ClientCertificateMode.AllowCertificate;
                https.CheckCertificateRevocation = false;
                https.ClientCertificateValidation = chain.ClientCertificateValidation();
            });
        }));
        builder.Services.AddGrpc(static options => options.Interceptors.Add<OperatorsOnly>());
        builder.Services.AddSingleton<FakeAdmin>();
        builder.Services.AddSingleton<FakeRetention>();
        builder.Services.AddSingleton<FakeGroups>();
        builder.Services.AddSingleton<FakeRecovery>();
        builder.Services.AddSingleton<FakeMigrations>();
        builder.Services.AddSingleton<FakeReplication>();
        builder.Services.AddSingleton(new FakeEnrollment(authority));
        var application = builder.Build();
        application.MapGrpcService<FakeAdmin>();
        application.MapGrpcService<FakeRetention>();
        application.MapGrpcService<FakeGroups>();
        application.MapGrpcService<FakeRecovery>();
        application.MapGrpcService<FakeMigrations>();
        application.MapGrpcService<FakeReplication>();
        application.MapGrpcService<FakeEnrollment>();
        await application.StartAsync(TestContext.Current.CancellationToken);
        return new FakeController(application, authority, certificate);
    }

    /// <summary>Writes an operator's credentials and returns their folder.</summary>
    public string WriteCredentials(TempFolder folder, string name = "operator", string? address = null)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = Authority.IssueClient(SigningRequest.Create(key), PeerRole.Operator, name);
        var path = Directory.CreateDirectory(folder.File(name)).FullName;
        File.WriteAllText(Path.Combine(path, "ca.crt"), Authority.Certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(path, "operator.crt"), certificate.ExportCertificatePem());
        File.WriteAllText(Path.Combine(path, "operator.key"), key.ExportPkcs8PrivateKeyPem());
        File.SetUnixFileMode(Path.Combine(path, "operator.key"), UnixFileMode.UserRead | UnixFileMode.UserWrite);
        File.WriteAllText(Path.Combine(path, "controller"), (address ?? Address) + "\n");
        return path;
    }

    public async ValueTask DisposeAsync()
    {
        await _application.DisposeAsync();
        _certificate.Dispose();
        Authority.Dispose();
    }

    private sealed class OperatorsOnly : Grpc.Core.Interceptors.Interceptor
    {
        public override Task<TResponse> UnaryServerHandler<TRequest, TResponse>(TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation) =>
            context.Method.EndsWith("/Enroll", StringComparison.Ordinal) || context.GetHttpContext().Connection.ClientCertificate is not null
                ? continuation(request, context)
                : throw new RpcException(new Status(StatusCode.Unauthenticated, "A client certificate is needed."));
    }
}
