using System.Net;
using System.Net.Sockets;

namespace VirtBackup.Testing.Lab;

/// <summary>Free ports of the loopback interface.</summary>
public static class LabPorts
{
    // Below those that systems hand out by themselves, so that a port stays free until its server binds it.
    private const int Lowest = 20_000;
    private const int Highest = 32_000;

    /// <summary>A port that nobody listens at now.</summary>
    public static int Take()
    {
        while (true)
        {
            var port = Random.Shared.Next(Lowest, Highest);
            try
            {
                using var listener = new TcpListener(IPAddress.Loopback, port);
                listener.Start();
                return port;
            }
            catch (SocketException)
            {
                // Somebody has it.
            }
        }
    }
}
