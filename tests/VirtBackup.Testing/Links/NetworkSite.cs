using Microsoft.Win32.SafeHandles;
using System.Net;
using System.Net.Sockets;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Testing.Links;

/// <summary>
/// A place with a network of its own: a network namespace without a name, which ends with the last process, thread or handle that
/// is in it. So nothing is left of it when the test is killed. Members may be called concurrently.
/// </summary>
public sealed class NetworkSite : IDisposable
{
    private static readonly string[] Tools = ["ip", "tc", "nsenter"];
    private readonly SafeFileHandle _namespace;
    private readonly List<IPAddress> _addresses = [];

    private NetworkSite(string name, SafeFileHandle handle)
    {
        Name = name;
        _namespace = handle;
    }

    public string Name { get; }

    /// <summary>Its addresses on its links, in the order in which these came to be.</summary>
    public IReadOnlyList<IPAddress> Addresses
    {
        get { lock (_addresses) return [.. _addresses]; }
    }

    /// <summary>What is put before a program and its arguments to have it run here, under the same process id.</summary>
    public IReadOnlyList<string> Prefix => ["nsenter", $"--net=/proc/{Environment.ProcessId}/fd/{_namespace.DangerousGetHandle()}", "--"];

    /// <summary>A site with nothing but its loopback interface.</summary>
    /// <exception cref="LabException">This machine or this user cannot have one; the message says what is missing.</exception>
    public static async Task<NetworkSite> CreateAsync(string name, CancellationToken cancellationToken = default)
    {
        Require();
        var site = new NetworkSite(name, OnThread(static () =>
        {
            KernelCalls.Unshare();
            return File.OpenHandle("/proc/thread-self/ns/net", FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        }));
        try
        {
            site.Inside(static () =>
            {
                // Its routers' advertisements would travel over the links, and be counted.
                foreach (var scope in new[] { "all", "default" })
                {
                    var setting = $"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6";
                    if (File.Exists(setting)) File.WriteAllText(setting, "1");
                }
                return 0;
            });
            await site.RunAsync(["ip", "link", "set", "lo", "up"], cancellationToken);
            return site;
        }
        catch
        {
            site.Dispose();
            throw;
        }
    }

    /// <summary>Runs a program here, which must succeed.</summary>
    /// <returns>What it printed.</returns>
    public Task<string> RunAsync(IReadOnlyList<string> command, CancellationToken cancellationToken = default) =>
        Proc.CheckAsync(Prefix[0], [.. Prefix.Skip(1), .. command], cancellationToken: cancellationToken);

    /// <summary>Starts a program here.</summary>
    public BackgroundProc Start(string program, IEnumerable<string> arguments) =>
        BackgroundProc.Start(Prefix[0], [.. Prefix.Skip(1), program, .. arguments]);

    /// <summary>Does something on a thread that is here. Sockets and files of the network that it opens stay here.</summary>
    public T Inside<T>(Func<T> work) => OnThread(() =>
    {
        KernelCalls.Enter(_namespace);
        return work();
    });

    /// <summary>A socket that is here.</summary>
    public Socket CreateSocket() => Inside(static () => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true });

    /// <summary>Connects from here.</summary>
    public async Task<Socket> ConnectAsync(IPEndPoint address, CancellationToken cancellationToken = default)
    {
        var socket = CreateSocket();
        try
        {
            await socket.ConnectAsync(address, cancellationToken);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Listens here, at a port that is free.</summary>
    public Socket Listen(IPAddress address)
    {
        var socket = CreateSocket();
        socket.Bind(new IPEndPoint(address, 0));
        socket.Listen();
        return socket;
    }

    internal void Add(IPAddress address)
    {
        lock (_addresses) _addresses.Add(address);
    }

    public void Dispose() => _namespace.Dispose();

    private static void Require()
    {
        if (!OperatingSystem.IsLinux()) throw new LabException("Sites and links of the tests need Linux.");
        var path = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':');
        var lacking = Tools.Where(tool => !path.Any(folder => File.Exists(Path.Combine(folder, tool)))).ToList();
        if (lacking.Count > 0) throw new LabException($"Sites and links of the tests need {string.Join(", ", lacking)}: run deploy/lab/install-dependencies.sh; /usr/sbin must be on the PATH.");
        if (!File.Exists(TunDevice.Clone)) throw new LabException($"Sites and links of the tests need {TunDevice.Clone} (CONFIG_TUN of the kernel), which is not there.");
    }

    // A thread that was in another namespace must not do anything else.
    private static T OnThread<T>(Func<T> work)
    {
        var result = new TaskCompletionSource<T>();
        var thread = new Thread(() =>
        {
            try
            {
                result.SetResult(work());
            }
#pragma warning disable CA1031 // It is thrown to whoever waits.
            catch (Exception failure)
#pragma warning restore CA1031
            {
                result.SetException(failure);
            }
        }) { IsBackground = true };
        thread.Start();
        return result.Task.GetAwaiter().GetResult();
    }
}
