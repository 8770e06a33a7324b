using System.Reflection;
using System.Security.Cryptography;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using VirtBackup.Catalog;
using VirtBackup.CloudStores;
using VirtBackup.Controller.Grpc;
using VirtBackup.Controller.Host.Peers;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Identity;
using VirtBackup.Repository;
using VirtBackup.Repository.Index;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Host;

/// <summary>Composes the controller from its folder and runs it until it is told to stop.</summary>
internal static class ControllerProgram
{
    private static readonly TimeSpan StopPatience = TimeSpan.FromSeconds(5);

    public static string Version { get; } =
        typeof(ControllerProgram).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0";

    /// <exception cref="FaultException">It cannot run; the message says why and what to do.</exception>
    public static async Task RunAsync(string folder)
    {
        var home = new ControllerHome(folder);
        var settings = home.ReadSettings();
        using var homeLock = home.TakeLock();
        using var authority = home.ReadAuthority(SystemEntropy.Instance, TimeProvider.System);
        using var escrow = ReadEscrow(home);
        await using var opened = await StoreOpener.OpenOwnedAsync(
            StoreLocation.Parse(settings.RepositoryPath), home.SpoolPath, SystemEntropy.Instance, static notice => Console.Error.WriteLine($"virtbackupd: {notice}"), CancellationToken.None);
        var store = opened.Store;
        await RequireRepositoryAsync(store, settings);
        await using var index = SqliteDatabase.Open(home.IndexPath, RepositoryIndex.Schema, new SqliteOptions { CacheKibibytes = 4 << 10 });
        await using var catalog = SqliteDatabase.Open(home.CatalogPath, CatalogSchema.Migrations, new SqliteOptions { CacheKibibytes = 1 << 10, Readers = 2 });
        await using var repository = await BackupRepository.OpenAsync(
            store, index, new RepositoryOptions { PackBytesTarget = store.PackBytesTarget, TimeFloorMs = (await new TrustedTimeRecords(catalog).FindAsync(CancellationToken.None))?.MarkMs ?? 0 }, TimeProvider.System, SystemEntropy.Instance, CancellationToken.None);

        using var peerKeys = new PeerKeyFolders(home.PeersPath, TimeProvider.System);
        using var dialer = new PeerDialer(peerKeys, authority.CertificateHash, TimeProvider.System);

        var builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { ContentRootPath = home.Folder });
        ConfigureHost(builder);
        using var loggers = LoggerFactory.Create(ConfigureLogging);
        await using var role = new ControllerRole(new ControllerParts
        {
            Identity = new ControllerIdentity(repository.Head.Uuid, Version, settings.DialAddress, settings.RepositoryPath),
            Authority = authority,
            Escrow = escrow,
            Store = store,
            Repository = repository,
            CatalogDatabase = catalog,
            Boot = ReadBoot(),
            Entropy = SystemEntropy.Instance,
            Time = TimeProvider.System,
            Scrub = settings.Scrub,
            Peers = dialer,
            OriginKeys = new OriginKeyFiles(home),
            Loggers = loggers,
        });
        await role.StartAsync(CancellationToken.None);
        using var certificate = new ServerCertificate(authority, settings, TimeProvider.System);
        builder.WebHost.ConfigureKestrel(kestrel => ConfigureKestrel(kestrel, settings, certificate, role.Chain));
        builder.Services.AddSingleton<IMemoryPoolFactory<byte>, ConnectionBuffers>();
        builder.Services.AddController(role);
        await using var application = builder.Build();
        application.MapController();
        var renewal = new PeerCertificateRenewal(role.Catalog.Peers, peerKeys, TimeProvider.System, loggers.CreateLogger<PeerCertificateRenewal>());
        await ServeAsync(application, role, [certificate.RunAsync, renewal.RunAsync], loggers.CreateLogger("VirtBackup.Controller.Host"));
    }

    /// <summary>The kernel names each boot; where it does not, nothing is known of the time while the controller was stopped.</summary>
    private static string ReadBoot()
    {
        try
        {
            return File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim();
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private static EscrowKeys ReadEscrow(ControllerHome home)
    {
        var bytes = home.ReadEscrow();
        try
        {
            return EscrowKeys.Parse(bytes);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(bytes);
        }
    }

    /// <summary>Before anything is claimed: another repository at this path is a swapped disk.</summary>
    private static async ValueTask RequireRepositoryAsync(IObjectStore store, ControllerSettings settings)
    {
        var head = await BackupRepository.ReadHeadAsync(store, CancellationToken.None);
        if (head.Uuid != Id16.Parse(settings.RepositoryId))
        {
            throw new FaultException(
                FaultReason.FailedPrecondition,
                $"'{settings.RepositoryPath}' holds repository {head.Uuid}, not {settings.RepositoryId}: check which disk is mounted there, or the address.");
        }
    }

    private static void ConfigureHost(WebApplicationBuilder builder)
    {
        builder.Host.UseSystemd();
        builder.Logging.ClearProviders();
        ConfigureLogging(builder.Logging);
        builder.Services.Configure<HostOptions>(static options => options.ShutdownTimeout = StopPatience);
    }

    private static void ConfigureLogging(ILoggingBuilder logging)
    {
        logging.AddSimpleConsole(static options =>
        {
            options.SingleLine = true;
            options.UseUtcTimestamp = true;
            options.TimestampFormat = "yyyy-MM-ddTHH:mm:ss.fffZ ";
            options.ColorBehavior = Microsoft.Extensions.Logging.Console.LoggerColorBehavior.Disabled;
        });
        logging.Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(static options => options.LogToStandardErrorThreshold = LogLevel.Trace);
        logging.AddFilter("Microsoft", LogLevel.Warning);
        logging.AddFilter("Grpc", LogLevel.Warning);
        // Calls that end because a client went away are told by the call gate, if they matter.
        logging.AddFilter("Grpc.AspNetCore.Server.ServerCallHandler", LogLevel.Critical);
    }

    private static void ConfigureKestrel(KestrelServerOptions kestrel, ControllerSettings settings, ServerCertificate certificate, ChainPolicy chain)
    {
        kestrel.AddServerHeader = false;
        var limits = kestrel.Limits;
        // Uploads have no end that is known in advance, and may pause.
        limits.MaxRequestBodySize = null;
        limits.MinRequestBodyDataRate = null;
        limits.MinResponseDataRate = null;
        limits.MaxResponseBufferSize = 1 << 20;
        limits.Http2.KeepAlivePingDelay = TimeSpan.FromSeconds(20);
        limits.Http2.KeepAlivePingTimeout = TimeSpan.FromSeconds(20);
        // One fat link of 1 Gb/s and 40 ms fits into the stream's window; memory is bounded by the connections' windows.
        limits.Http2.InitialConnectionWindowSize = 8 << 20;
        limits.Http2.InitialStreamWindowSize = 4 << 20;
        limits.Http2.MaxStreamsPerConnection = 200;
        foreach (var endpoint in settings.Endpoints)
        {
            kestrel.Listen(endpoint, listen =>
            {
                listen.Protocols = HttpProtocols.Http2;
                listen.UseHttps(https =>
                {
                    https.ServerCertificateSelector = (_, _) => certificate.Current;
                    // Enrolling has no certificate yet; the call gate demands one everywhere else.
                    https.ClientCertificateMode = ClientCertificateMode.AllowCertificate;
                    https.CheckCertificateRevocation = false;
                    // A host under full load needs its time for the first handshake.
                    https.HandshakeTimeout = TimeSpan.FromSeconds(20);
                    // A certificate that was good goes on to the gate, too: it opens nothing there, and its owner is told why.
                    https.ClientCertificateValidation = (certificate, _, _) =>
                        chain.ValidateClient(certificate) is { IsAccepted: true } or { Refusal: ChainRefusal.Revoked or ChainRefusal.Expired };
                });
            });
        }
    }

    private static async Task ServeAsync(WebApplication application, ControllerRole role, IReadOnlyList<Func<CancellationToken, Task>> beside, ILogger logger)
    {
        var lifetime = application.Lifetime;
        using var stopping = CancellationTokenSource.CreateLinkedTokenSource(lifetime.ApplicationStopping);
        await application.StartAsync(stopping.Token);
        var addresses = application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses;
        foreach (var address in addresses)
        {
            Console.WriteLine($"ready: listening on {new Uri(address).Authority}");
        }
        Task[] loops = [role.RunAsync(stopping.Token), .. beside.Select(loop => loop(stopping.Token))];
        Exception? failure = null;
        try
        {
            await await Task.WhenAny(loops);
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested)
        {
            // Told to stop.
        }
        catch (Exception broken)
        {
            failure = broken;
            logger.LogCritical(broken, "The controller stops: a part of it failed.");
        }
        await stopping.CancelAsync();
        await GoAwayAsync(role);
        using var patience = new CancellationTokenSource(StopPatience, TimeProvider.System);
        await application.StopAsync(patience.Token);
        if (failure is not null)
        {
            throw new FaultException(FaultReason.Unspecified, "A part of the controller failed: see the log above.", failure);
        }
    }

    /// <summary>Tells the agents to come back; their uploads resume with the next controller.</summary>
    private static async Task GoAwayAsync(ControllerRole role)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(5), TimeProvider.System);
        try
        {
            await role.Connections.GoAwayAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            // An agent that does not listen is cut off.
        }
    }
}
