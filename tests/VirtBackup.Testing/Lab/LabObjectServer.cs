using System.Globalization;

namespace VirtBackup.Testing.Lab;

/// <summary>
/// A real object store on the loopback interface: Ceph's S3 gateway or Azurite, run by the scripts in <c>deploy/lab</c>. It
/// and its data end with disposal.
/// </summary>
public sealed class LabObjectServer : IAsyncDisposable
{
    // Six processes that start together on a busy machine.
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(4);

    private readonly LabDirectory _directory;
    private readonly BackgroundProc _process;

    private LabObjectServer(LabDirectory directory, BackgroundProc process, string endpoint, bool isS3)
    {
        (_directory, _process, Endpoint, IsS3) = (directory, process, endpoint, isS3);
    }

    /// <summary>Where it answers, over HTTP.</summary>
    public string Endpoint { get; }

    /// <summary>Ceph's gateway; otherwise Azurite.</summary>
    public bool IsS3 { get; }

    /// <summary>What a program needs in its environment to be let in.</summary>
    public IReadOnlyDictionary<string, string?> Credentials => IsS3
        ? new Dictionary<string, string?> { ["AWS_ACCESS_KEY_ID"] = "VIRTBACKUPLAB", ["AWS_SECRET_ACCESS_KEY"] = "virtbackup-laboratory", ["AWS_EC2_METADATA_DISABLED"] = "true" }
        : new Dictionary<string, string?> { ["AZURE_STORAGE_KEY"] = "dmlydGJhY2t1cC1sYWJvcmF0b3J5" };

    /// <summary>Ceph with its S3 gateway.</summary>
    /// <param name="osds">Storage daemons; every object is on each of them.</param>
    /// <param name="onDisk">Objects in files instead of in memory.</param>
    /// <exception cref="LabException">A program is missing or does not come up.</exception>
    public static Task<LabObjectServer> StartCephAsync(int osds = 1, bool onDisk = false)
    {
        var port = LabPorts.Take();
        string[] options = ["--osds", osds.ToString(CultureInfo.InvariantCulture)];
        return StartAsync("run-ceph.sh", directory => [directory.File("ceph"), Text(LabPorts.Take()), Text(port), .. options, .. onDisk ? ["--on-disk"] : Array.Empty<string>()], $"http://127.0.0.1:{port}", isS3: true);
    }

    /// <summary>Azurite.</summary>
    /// <exception cref="LabException">A program is missing or does not come up.</exception>
    public static Task<LabObjectServer> StartAzuriteAsync()
    {
        var port = LabPorts.Take();
        return StartAsync("run-azurite.sh", directory => [directory.File("azurite"), Text(port)], $"http://127.0.0.1:{port}", isS3: false);
    }

    /// <summary>The address of a repository in its bucket or container.</summary>
    /// <param name="prefix">Of its objects.</param>
    /// <param name="through">Endpoint of a proxy in front of it; null: its own.</param>
    public string LocationOf(string prefix, string? through = null) => IsS3
        ? $"s3://virtbackup/{prefix}?endpoint={through ?? Endpoint}"
        : $"azure://vblab/virtbackup/{prefix}?endpoint={through ?? Endpoint}/vblab";

    /// <summary>Lets this process in.</summary>
    public void UseCredentials()
    {
        foreach (var (name, value) in Credentials)
        {
            Environment.SetEnvironmentVariable(name, value);
        }
    }

    /// <summary>SIGKILL to one storage daemon of Ceph, as when its host loses power.</summary>
    public async Task KillStorageAsync(int number) =>
        await Proc.CheckAsync("kill", ["-KILL", (await File.ReadAllTextAsync(Path.Combine(_directory.File("ceph"), "run", $"osd.{number}.pid"))).Trim()]);

    public async ValueTask DisposeAsync()
    {
        await _process.TerminateAsync();
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(10));
        try
        {
            await _process.WaitForExitAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            // Disposal kills it.
        }
        await _process.DisposeAsync();
        _directory.Dispose();
    }

    private static async Task<LabObjectServer> StartAsync(string script, Func<LabDirectory, string[]> arguments, string endpoint, bool isS3)
    {
        var directory = new LabDirectory();
        var process = BackgroundProc.Start("bash", [Path.Combine(LabGuest.RepositoryRoot, "deploy", "lab", script), .. arguments(directory)]);
        try
        {
            await process.WaitForLineAsync(": ready", Patience);
            return new LabObjectServer(directory, process, endpoint, isS3);
        }
        catch
        {
            await process.DisposeAsync();
            directory.Dispose();
            throw;
        }
    }

    private static string Text(int port) => port.ToString(CultureInfo.InvariantCulture);
}
