using System.Reflection;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Control;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Hypervisors;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Libvirt;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Identity;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Agent.Host;

/// <summary>Composes the agent and runs it until the host stops.</summary>
internal sealed partial class AgentService(AgentSettings settings, ILoggerFactory loggers, IHostApplicationLifetime lifetime) : BackgroundService
{
    private readonly ILogger _logger = loggers.CreateLogger<AgentService>();

    /// <summary>The failure that ended the service, if one did.</summary>
    public Exception? Failure { get; private set; }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        try
        {
            await ServeAsync(stoppingToken);
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // Stopped as asked.
        }
#pragma warning disable CA1031 // The program's last resort: whatever ended the agent becomes its exit message.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            Failure = exception;
        }
        lifetime.StopApplication();
    }

    // The host's memory is its guests': what a job held is given back now, not when the next one needs as much.
    private static void GiveMemoryBack() => GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);

    private async Task ServeAsync(CancellationToken stoppingToken)
    {
        var time = TimeProvider.System;
        var entropy = SystemEntropy.Instance;
        using var keys = AgentKeyStore.LoadOrCreate(Path.Combine(settings.Home, "identity"), time);
        if (keys.Identity is not { } identity)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"This agent is not enrolled. Make a token on the controller (virtbackup agent token) and run: virtbackup agent enroll TOKEN --home {settings.Home}");
        }
        var endpoint = ReadEndpoint();
        var fleece = settings.FleeceFolder ?? Path.Combine(settings.Home, "fleece");
        PrivateFolder.Create(fleece);
        using var link = new ControllerLink(endpoint, keys);
        using var vmKeys = new VmKeyRing(time, entropy);
        await using var libvirt = settings.Libvirt is { } section
            ? new LibvirtHypervisor(section.ToOptions() with { StateFolder = Path.Combine(settings.Home, "machines", "libvirt"), Guard = ThawWatchdog.CreateGuard(), Report = message => LogLibvirt(_logger, message) }, time, entropy, new WaitingThreads()) : null;
        IReadOnlyList<IHypervisor> hypervisors =
        [
            new QemuHypervisor(settings.ToQemuMachines(), new QemuOptions(fleece) { StateFolder = Path.Combine(settings.Home, "machines"), Guard = ThawWatchdog.CreateGuard() }, time, entropy),
            new ImageHypervisor(settings.ToImageMachines(), new ImageTools { StateFolder = Path.Combine(settings.Home, "machines") }, time),
            .. libvirt is null ? Array.Empty<IHypervisor>() : [libvirt],
        ];
        using var priority = new ProcessPriority(settings.ToPriority(), _logger);
        priority.Begin();
        var workers = settings.Workers > 0 ? settings.Workers : Environment.ProcessorCount;
        var context = new BackupContext(
            identity.Name, new GrpcStoreTransport(link.Data, $"The controller {endpoint}"), new FileBaseStore(Path.Combine(settings.Home, "state")), vmKeys,
            keys.SigningKey, KeyId.Compute(keys.ExportSigningPublicKey()),
            new CaptureTools(time, entropy, workers, (long)settings.ReadMibPerSecondMax << 20, GiveMemoryBack)
            {
                Shape = settings.ToShape(), Audit = settings.ToAudit(), Guests = settings.ToGuestPolicies(), ProbeCommands = settings.ToProbeCommands(), BeginUrgent = priority.BeginUrgent,
            })
        {
            Restored = new FileBaseStore(Path.Combine(settings.Home, "state", "restored")),
            RestoreNotes = new FileRestoreNotes(Path.Combine(settings.Home, "state", "restores"), message => LogNote(_logger, message)),
        };
        var control = new GrpcControlTransport(link.Control, $"The controller {endpoint}");
        var version = Assembly.GetExecutingAssembly().GetName().Version!.ToString(3);
        using var loop = new ControlLoop(control, context, hypervisors, version, Environment.MachineName, loggers.CreateLogger<ControlLoop>())
        {
            Connected = controllerVersion => LogReady(_logger, endpoint, controllerVersion),
        };
        var renewal = new CertificateRenewalLoop(keys, control, time, loggers.CreateLogger<CertificateRenewalLoop>());
        var renewing = renewal.RunAsync(stoppingToken);
        await loop.RunAsync(stoppingToken);
        await renewing;
    }

    private string ReadEndpoint()
    {
        if (!string.IsNullOrWhiteSpace(settings.Controller))
        {
            return settings.Controller;
        }
        var path = Path.Combine(settings.Home, "controller");
        try
        {
            return File.ReadAllText(path).Trim();
        }
        catch (IOException exception)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The controller's address is not known: {path} cannot be read. Enroll the agent, or set 'controller' in agent.yaml.", exception);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Message}")]
    private static partial void LogNote(ILogger logger, string message);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Message}")]
    private static partial void LogLibvirt(ILogger logger, string message);

    [LoggerMessage(Level = LogLevel.Information, Message = "ready: connected to {Endpoint} (version {Version})")]
    private static partial void LogReady(ILogger logger, string endpoint, string version);
}
